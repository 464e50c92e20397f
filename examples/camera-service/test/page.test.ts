import { eventually } from '@marty/testing'
import type { Page } from 'playwright-core'
import t from 'tap'
import { launchChromium } from './browser.js'
import { processesMentioning, startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const service = await startService()
t.teardown(() => service.stop())
const browser = await launchChromium()
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
  const scope = globalThis as unknown as {
    document: { querySelector(selector: string): { getVideoPlaybackQuality(): { totalVideoFrames: number } } | null }
  }
  return scope.document.querySelector('video')?.getVideoPlaybackQuality().totalVideoFrames ?? 0
})

t.test('a wrong token shows a readable message', async t => {
  const page = await open()
  await signIn(page, 'not.a.token')
  await page.getByTestId('error-text').waitFor()
  t.match(await page.getByTestId('error-text').textContent(), /\S/)
  t.equal(await page.getByTestId('camera-card').count(), 0)
  await page.close()
})

t.test('an operator signs in, sees moving video, takes a snapshot and records', async t => {
  const page = await open()
  await signIn(page, await service.token('operator'))
  await page.getByTestId('camera-card').waitFor()
  const first = await eventually(async () => {
    const count = await frames(page)
    if (count < 5) throw new Error(`${count} frames`)
    return count
  }, 60_000)
  await eventually(async () => { if (await frames(page) <= first + 10) throw new Error('the picture stands still') })
  await eventually(async () => {
    if (!/live/i.test((await page.getByTestId('camera-state').textContent()) ?? '')) {
      throw new Error('not said to be live')
    }
  })

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

t.test('a recording shows that it waits while its camera sends nothing, and continues afterwards', async t => {
  const page = await open()
  await signIn(page, await service.token('operator'))
  const badge = page.locator('.badge.rec')
  const says = async (text: string): Promise<void> => await eventually(async () => {
    const said = await badge.textContent()
    if (said !== text || !await badge.isVisible()) throw new Error(`it says "${said}"`)
  }, 60_000)
  await page.getByTestId('record-duration').selectOption({ value: '' })
  await page.getByTestId('record-button').click()
  await says('Recording')
  const [ffmpeg] = await processesMentioning(`:${service.ports.MEDIAMTX_RTSP_PORT}/cs/`)
  process.kill(ffmpeg!, 'SIGSTOP')
  await says('Recording, waiting for the camera')
  process.kill(ffmpeg!, 'SIGCONT')
  await says('Recording')
  const recorded = await page.getByTestId('recording-row').count()
  await page.getByTestId('record-button').click()
  await eventually(async () => { if (await page.getByTestId('recording-row').count() <= recorded) throw new Error('not listed') })
  await page.close()
})

t.test('a viewer sees video and no controls that would be refused', async t => {
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
    const { status } = await fetch(`http://127.0.0.1:${service.ports.SERVER_PORT}/auth/me`, {
      headers: { authorization: `Bearer ${token}` }
    })
    if (status !== 401) throw new Error('the token still works after signing out')
  })
  await page.close()
})

t.test('only the page itself may use full screen, picture-in-picture and the wake lock', async t => {
  const page = await open()
  await signIn(page, await service.token('viewer'))
  await page.getByTestId('camera-card').waitFor()
  await page.locator('button.full-screen').click()
  await eventually(async () => { if (!await page.evaluate('document.fullscreenElement !== null')) throw new Error('not in full screen') })
  await page.evaluate('document.exitFullscreen()')
  const allowed = await page.evaluate(`['fullscreen', 'picture-in-picture', 'screen-wake-lock', 'camera', 'microphone', 'geolocation']
    .filter(feature => document.featurePolicy.allowsFeature(feature))`)
  t.same(allowed, ['fullscreen', 'picture-in-picture', 'screen-wake-lock'])
  t.same(await page.evaluate("document.featurePolicy.getAllowlistForFeature('fullscreen')"), [
    `http://127.0.0.1:${service.ports.SERVER_PORT}`
  ])
  await page.close()
})

t.test('the page does not violate its content security policy', async t => {
  t.same(errors.filter(text => /Content Security Policy|Refused to/i.test(text)), [])
})
