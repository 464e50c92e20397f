import { resolve } from 'node:path'
import { loadConfig } from '@marty/config'
import { configSchema } from '@marty/camera-service/settings/schema.js'
import t from 'tap'

t.test('camera-service.yaml has the settings and defaults of the schema', async t => {
  const file = resolve(import.meta.dirname, '../camera-service.yaml')
  const written = loadConfig({ schema: configSchema, file, env: {} })
  const defaults = loadConfig({ schema: configSchema, env: {} })
  t.strictSame(written.value, defaults.value)
  const silent = [...written.origins].filter(([, origin]) => origin === 'default').map(([name]) => name)
  t.strictSame(silent, [], 'every setting is in the file')
})
