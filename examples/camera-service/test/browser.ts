import { access, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { chromium, type BrowserContext } from 'playwright-core'

// Chromium in a closed network, as root in a container: without these it asks for hosts that are not there.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--autoplay-policy=no-user-gesture-required'
]

/** The browser of people who watch, with a profile of its own. */
export async function launchChromium (): Promise<BrowserContext> {
  const profile = await mkdtemp(join(tmpdir(), 'chromium-'))
  return await chromium.launchPersistentContext(profile, {
    executablePath: await chromiumPath(),
    args: FLAGS,
    headless: true,
    viewport: { width: 1280, height: 800 }
  })
}

/** The names under which setup looks for Chromium, too. */
async function chromiumPath (): Promise<string> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    for (const name of ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']) {
      if (await access(join(folder, name)).then(() => true, () => false)) return join(folder, name)
    }
  }
  throw new Error('Chromium is not installed: run "npm run setup -- --for test" (Debian: apt-get install chromium)')
}
