import { byId } from './element.js'
import { RpcClient, RpcError } from './rpc.js'
import { Session } from './session.js'
import { toast } from './toasts.js'
import { Wall } from './wall.js'
import { inWords, until } from './words.js'

const NOT_AUTHENTICATED = -32001
const TOKEN_INVALID = 'This token is not valid, or it has expired. Get a new one and paste it here.'
const SESSION_ENDED = 'Your session has ended. Sign in with a new token.'

const session = new Session()
const signInView = byId('sign-in-view', HTMLElement)
const wallView = byId('wall-view', HTMLElement)
const banner = byId('banner', HTMLElement)
const form = byId('sign-in-form', HTMLFormElement)
const input = byId('token', HTMLInputElement)
const signInButton = byId('sign-in-button', HTMLButtonElement)
const signInError = byId('sign-in-error', HTMLElement)
const who = byId('who', HTMLElement)

/** @type {RpcClient | null} */
let client = null
/** @type {Wall | null} */
let wall = null

form.addEventListener('submit', event => {
  event.preventDefault()
  const token = tokenIn(input.value)
  if (token === '') {
    showSignIn('Paste a token first.')
    return
  }
  session.use(token)
  signIn()
})

byId('sign-out', HTMLButtonElement).addEventListener('click', () => signOut(''))

addEventListener('online', () => client?.retryNow())
document.addEventListener('visibilitychange', () => { if (!document.hidden) client?.retryNow() })
addEventListener('unhandledrejection', event => toast(inWords(event.reason), 'error'))

if (session.exists) signIn()
else showSignIn('')

function signIn () {
  client?.close()
  const connection = new RpcClient(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`)
  const pasted = input.value !== ''
  client = connection
  signInButton.disabled = true
  signInButton.textContent = 'Signing in…'
  signInError.hidden = true
  connection.greet = () => session.authenticate(connection)
  connection.addEventListener('open', () => {
    banner.hidden = true
    if (wall === null) showWall(connection)
    showAccount()
    void wall?.refresh()
  })
  connection.addEventListener('lost', () => {
    if (wall === null) showSignIn('The service cannot be reached, or it has too many connections. Trying again…')
    else showBanner('The connection to the service is lost. Trying to restore it…')
  })
  connection.addEventListener('refused', event => {
    const { detail: error } = /** @type {CustomEvent} */ (event)
    if (error.code !== NOT_AUTHENTICATED) signOut(inWords(error, 'sign in'))
    else signOut(pasted && wall === null ? TOKEN_INVALID : SESSION_ENDED)
  })
  connection.open()
}

/** The service no longer accepts the credential. A session may outlive its token, so it is tried before signing out. */
async function renew () {
  if (client === null) return
  try {
    await session.authenticate(client)
    showAccount()
  } catch (error) {
    if (error instanceof RpcError && error.code === NOT_AUTHENTICATED) signOut(SESSION_ENDED)
  }
}

/** @param {string} reason shown at the sign-in form; empty when the person signed out */
function signOut (reason) {
  if (reason === '') void session.end()
  client?.close()
  client = null
  wall?.close()
  wall = null
  session.clear()
  banner.hidden = true
  showSignIn(reason)
}

/** @param {RpcClient} connection */
function showWall (connection) {
  input.value = ''
  signInView.hidden = true
  wallView.hidden = false
  wall = new Wall(connection, session, () => { void renew() })
}

function showAccount () {
  const { account } = session
  if (account === null) return
  const end = account.expiresAt === null ? '' : ` until ${until(account.expiresAt)}`
  who.textContent = `Signed in as ${account.role}${end}`
}

/** @param {string} reason */
function showSignIn (reason) {
  wallView.hidden = true
  signInView.hidden = false
  signInButton.disabled = false
  signInButton.textContent = 'Sign in'
  signInError.textContent = reason
  signInError.hidden = reason === ''
  input.setAttribute('aria-invalid', String(reason !== ''))
  // Do not disturb a person who is already typing the next token.
  if (document.activeElement === input) return
  input.focus()
  input.select()
}

/** @param {string} text */
function showBanner (text) {
  banner.textContent = text
  banner.hidden = false
}

/**
 * The token in pasted text, which may contain spaces, line ends and the word Bearer.
 * @param {string} pasted
 */
function tokenIn (pasted) {
  return pasted.trim().replace(/^bearer\s+/i, '').replace(/\s+/g, '')
}
