import autoload from '@fastify/autoload'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import Fastify from 'fastify'

t.test('the file that the guide shows guards what is loaded beside it', async t => {
  const guide = readFileSync(new URL('../../../docs/guides/secure-a-service.md', import.meta.url), 'utf8')
  const folder = join(import.meta.dirname, 'guide')
  const files = {
    'settings.js': `
      import { optionsFor } from '../service.js'
      export const settings = { security: { ...optionsFor('/nowhere'), audit: false } }
    `,
    'plugins/security.js': guide.split('```js\n')[1]?.split('```')[0] ?? '',
    'routes/reports.js': `
      export default async app => {
        app.get('/reports', { config: { security: { permission: 'report:read' } } }, async () => 'secret')
      }
    `
  }
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(join(folder, file, '..'), { recursive: true })
    writeFileSync(join(folder, file), text)
  }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(autoload, { dir: join(folder, 'plugins') })
  await app.register(autoload, { dir: join(folder, 'routes') })
  t.equal((await app.inject('/reports')).statusCode, 401)
})
