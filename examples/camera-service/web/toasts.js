import { byId, element } from './element.js'

const SHOWN_MS = { info: 5000, error: 10_000 }
const MAX_SHOWN = 4

/**
 * Shows a message for a while. The same message is not stacked on itself.
 * @param {string} text
 * @param {'info' | 'error'} [kind]
 */
export function toast (text, kind = 'info') {
  const list = byId('toasts', HTMLElement)
  for (const shown of list.children) {
    if (shown.firstElementChild?.textContent === text) shown.remove()
  }
  const close = element('button', { type: 'button', class: 'close', 'aria-label': 'Dismiss' }, '×')
  const node = element('div', { class: `toast ${kind}` },
    element('p', kind === 'error' ? { 'data-testid': 'error-text' } : {}, text), close)
  close.addEventListener('click', () => node.remove())
  list.append(node)
  while (list.children.length > MAX_SHOWN) list.firstElementChild?.remove()

  // A message that is being read stays.
  const expire = () => {
    if (node.matches(':hover, :focus-within')) setTimeout(expire, 1000)
    else node.remove()
  }
  setTimeout(expire, SHOWN_MS[kind])
}

/**
 * Announces a change to people who use a screen reader.
 * @param {string} text
 */
export function announce (text) {
  byId('announcer', HTMLElement).textContent = text
}
