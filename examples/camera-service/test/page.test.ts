import { access, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { chromium, type Page } from 'playwright-core'
import t from 'tap'
import { eventually, startService } from './running-service.js'

// For a machine that hangs; nothing here is about speed.
t.setTimeout(900_000)

// Chromium in a closed network, as root in a container: without these it asks for hosts that are not there.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--autoplay-policy=no-user-gesture-required'
]

const service = await startService()
t.teardown(() => service.stop())
const profile = await mkdtemp(join(tmpdir(), 'chromium-'))
const browser = await chromium.launchPersistentContext(profile, { executablePath: await chromiumPath(), args: FLAGS, headless: true, viewport: { width: 1280, height: 800 } })
t.teardown(() => browser.close())

const errors: string[] = []
const open = async (): Promise<Page> => {
  const page = await browser.newPage()
  page.on('pageerror', error => errors.push(String(error)))
  page.on('console', message => { if (message.type() === 'error') errors.push(message.text()) })
  await page.goto(`http://127.0.0.1:${service.ports.SERVER_PORT}/`)
  return page
}
const signIn = async (page: Page, token: string): Promise<void> => {
  await page.getByTestId('token-input').fill(token)
  await page.getByTestId('sign-in').click()
}
const frames = (page: Page): Promise<number> => page.evaluate(() => {
  const scope = globalThis as unknown as { document: { querySelector (selector: string): { getVideoPlaybackQuality (): { totalVideoFrames: number } } | null } }
  return scope.document.querySelector('video')?.getVideoPlaybackQuality().totalVideoFrames ?? 0
})

t.test('a wrong token is refused in words', async t => {
  const page = await open()
  await signIn(page, 'not.a.token')
  await page.getByTestId('error-text').waitFor()
  t.match(await page.getByTestId('error-text').textContent(), /\S/)
  t.equal(await page.getByTestId('camera-card').count(), 0)
  await page.close()
})

t.test('an operator signs in, sees the picture move, takes a snapshot and records', async t => {
  const page = await open()
  await signIn(page, await service.token('operator'))
  await page.getByTestId('camera-card').waitFor()
  const first = await eventually(async () => {
    const count = await frames(page)
    if (count < 5) throw new Error(`${count} frames`)
    return count
  }, 60_000)
  await eventually(async () => { if (await frames(page) <= first + 10) throw new Error('the picture stands still') })
  await eventually(async () => { if (!/live/i.test(await page.getByTestId('camera-state').textContent() ?? '')) throw new Error('not said to be live') })

  await page.getByTestId('snapshot-button').click()
  await page.getByTestId('snapshot-thumb').first().waitFor()
  await page.getByTestId('record-button').click()
  await eventually(async () => {
    const client = await service.connect('viewer')
    const { recording } = await client.call('get_camera_status', { device: 'camera0' })
    client.close()
    if (recording !== true) throw new Error('not recording')
  })
  await page.getByTestId('record-button').click()
  await page.getByTestId('recording-row').first().waitFor()
  // The README's picture is made here: PAGE_PICTURE=docs/page.png node examples/camera-service/dist-test/page.test.js
  if (process.env['PAGE_PICTURE'] !== undefined) await page.screenshot({ path: process.env['PAGE_PICTURE'] })
  await page.close()
})

t.test('a viewer sees the picture and is offered nothing that would be refused', async t => {
  const page = await open()
  const token = await service.token('viewer')
  await signIn(page, token)
  await page.getByTestId('camera-card').waitFor()
  for (const button of ['snapshot-button', 'record-button']) {
    const found = page.getByTestId(button)
    t.ok(await found.count() === 0 || await found.first().isDisabled(), button)
  }
  await page.getByTestId('sign-out').click()
  await page.getByTestId('token-input').waitFor()
  t.equal(await page.getByTestId('camera-card').count(), 0)
  await eventually(async () => {
    const { status } = await fetch(`http://127.0.0.1:${service.ports.SERVER_PORT}/auth/me`, { headers: { authorization: `Bearer ${token}` } })
    if (status !== 401) throw new Error('the token still works after signing out')
  })
  await page.close()
})

t.test('the page breaks none of its own content security policy', async t => {
  t.same(errors.filter(text => /Content Security Policy|Refused to/i.test(text)), [])
})

/** The names under which setup looks for Chromium, too. */
async function chromiumPath (): Promise<string> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    for (const name of ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']) {
      if (await access(join(folder, name)).then(() => true, () => false)) return join(folder, name)
    }
  }
  throw new Error('Chromium is not installed: run "npm run setup -- --for test" (Debian: apt-get install chromium)')
}
