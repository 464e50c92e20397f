import { execFileSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import t from 'tap'
import { read, root } from './files.mjs'

const LIST = ['-c', 'safe.directory=*', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', '*.md']
const documents = execFileSync('git', LIST, { cwd: root, encoding: 'utf8' })
  .split('\0').filter(file => file !== '' && existsSync(join(root, file)))

t.test('every relative link in a Markdown file leads to a file, and its anchor to a heading', async t => {
  t.ok(documents.includes('README.md') && documents.includes('docs/README.md'))
  for (const document of documents) {
    for (const link of links(read(document))) {
      const [path, anchor] = link.split('#')
      const file = path === '' ? document : posix.join(dirname(document), decodeURIComponent(path))
      if (!t.ok(existsSync(join(root, file)), `${document} links to ${link}`) || anchor === undefined) continue
      const page = statSync(join(root, file)).isDirectory() ? `${file}/README.md` : file
      if (page.endsWith('.md')) t.ok(anchors(read(page)).has(anchor), `${document} links to ${link}`)
    }
  }
})

t.test('every guide, reference page and decision is on the map', async t => {
  const map = links(read('docs/README.md')).map(link => posix.join('docs', link))
  const pages = documents.filter(file => /^docs\/(guides|reference|architecture)\//.test(file))
  for (const page of pages) t.ok(map.includes(page), page)
})

t.test('docs holds guides, reference and architecture', async t => {
  const folders = new Set(documents.filter(file => /^docs\/.*\//.test(file)).map(file => file.split('/')[1]))
  t.strictSame([...folders].sort(), ['architecture', 'guides', 'reference'])
})

/** Targets of links and pictures, without those to other sites and those in code. */
function links (text) {
  return [...withoutCode(text).matchAll(/\]\((?![a-z]+:)([^)\s]+)[^)]*\)/g)].map(match => match[1])
}

/** The anchors that GitHub gives the headings of a page. */
function anchors (text) {
  const names = new Set()
  for (const [, heading] of withoutFences(text).matchAll(/^#{1,6} +(.+?) *$/gm)) {
    const name = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-')
    for (let count = 0; ; count++) {
      const anchor = count === 0 ? name : `${name}-${count}`
      if (names.has(anchor)) continue
      names.add(anchor)
      break
    }
  }
  return names
}

function withoutFences (text) {
  return text.replace(/^ *```[\s\S]*?^ *```/gm, '')
}

function withoutCode (text) {
  return withoutFences(text).replace(/`[^`\n]*`/g, '')
}
