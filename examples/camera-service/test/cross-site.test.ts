import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { launchChromium } from './browser.js'
import { startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const FAILURES = 5

const service = await startService({
  env: { CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never', CAMERA_SERVICE_SECURITY_RATE_LIMITING_FAILED_LOGINS_PER_5_MINUTES: String(FAILURES) }
})
t.teardown(() => service.stop())
const own = `http://127.0.0.1:${service.ports.SERVER_PORT}`

/** Another site: another host, as browsers see it, on this machine. */
const site = createServer((_request, response) => {
  response
    .setHeader('content-type', 'text/html')
    .end('<!doctype html><title>other site</title><iframe name="out"></iframe>')
})
site.listen(0, 'localhost')
await once(site, 'listening')
t.teardown(() => { site.close() })
const other = `http://localhost:${(site.address() as AddressInfo).port}`

const browser = await launchChromium()
t.teardown(() => browser.close())

/** What a page can do without asking anybody: send a form. */
async function post (
  from: string,
  path: string,
  type: string,
  fields: Record<string, string>
): Promise<{ status: number, sent: Record<string, string>, text: string }> {
  const page = await browser.newPage()
  await page.goto(from)
  const navigated = page.waitForResponse(response => response.url() === `${own}${path}`)
  await page.evaluate(
    ({ url, type, fields }) => {
      interface Node {
        method: string
        action: string
        enctype: string
        name: string
        value: string
        append(child: Node): void
        submit(): void
      }
      const { document } = globalThis as unknown as {
        document: { createElement(name: string): Node, body: { append(child: Node): void } }
      }
      const form = document.createElement('form')
      Object.assign(form, { method: 'post', action: url, enctype: type })
      for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(document.createElement('input'), { name, value }))
      }
      document.body.append(form)
      form.submit()
    },
    { url: `${own}${path}`, type, fields }
  )
  const response = await navigated
  const answer = {
    status: response.status(),
    sent: await response.request().allHeaders(),
    text: await response.text().catch(() => '')
  }
  await page.close()
  return answer
}

const signIn = async (token: string): Promise<unknown> => {
  const client = await service.connect()
  const answer = await client.call('authenticate', { auth_token: token }).catch((error: unknown) => error)
  client.close()
  return answer
}

t.test('forms of another site do not count as failed sign-ins of its visitor', async t => {
  const routes = ['/auth/refresh', '/auth/token', '/auth/revoke', '/auth/logout', '/auth/session']
  const fields = { refresh_token: 'x', token: 'x', assertion: 'x', grant_type: 'refresh_token' }
  for (let i = 0; i < 4 * FAILURES; i++) {
    const path = routes[i % routes.length]!
    const { status, sent, text } = await post(other, path, i % 2 === 0 ? 'application/x-www-form-urlencoded' : 'text/plain', fields)
    t.match(sent, { 'sec-fetch-site': 'cross-site', origin: other }, 'as Chromium sends it')
    t.equal(status, 403, path)
    t.match(text, 'MARTY_AUTH_CSRF_INVALID')
  }
  t.match(await signIn(await service.token('viewer')), { authenticated: true })
  for (let i = 0; i < FAILURES; i++) t.match(await signIn(`a.b.${i}`), { code: -32001 }, 'and all of them are still there')
  t.match(await signIn('a.b.c'), { code: -32040 })
  t.match(await signIn(await service.token('viewer')), { authenticated: true }, 'a right token is let in all the same')
})

t.test('a form of the service\'s own page needs a credential', async t => {
  const { status, sent } = await post(`${own}/`, '/auth/refresh', 'application/x-www-form-urlencoded', { refresh_token: 'x' })
  t.match(sent, { 'sec-fetch-site': 'same-origin', origin: 'null' }, 'its Referrer-Policy is no-referrer')
  t.ok(status === 401 || status === 429, `${status}`)
})
