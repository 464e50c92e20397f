import t from 'tap'
import { Type } from 'typebox'
import { checkSchema, ConfigError, loadConfig, showConfig, type LoadConfigOptions, type Path } from '@marty/config'

// The compiler checks this file; running it shows only that the right uses work.

const schema = Type.Object({
  port: Type.Integer({ default: 1 }),
  hosts: Type.Array(Type.String(), { default: ['a'] })
})

t.test('the value has the type of the schema, and cannot be written', async t => {
  const { value } = loadConfig({ schema, env: {} })
  const port: number = value.port
  // @ts-expect-error the type of a setting is known
  const host: number = value.hosts[0]
  // @ts-expect-error settings are read-only
  t.throws(() => { value.port = 2 }, TypeError)
  // @ts-expect-error lists are read-only
  t.throws(() => value.hosts.push('b'), TypeError)
  // @ts-expect-error the schema has no such setting
  t.equal(value.prot, undefined)
  t.same([port, host], [1, 'a'])
})

t.test('the options have types', async t => {
  const options: LoadConfigOptions<typeof schema> = { schema, file: null, env: {}, envPrefix: 'APP', reservedEnv: [] }
  // @ts-expect-error the schema is required
  const missing: LoadConfigOptions<typeof schema> = { file: null }
  // @ts-expect-error there is no such option
  const unknown: LoadConfigOptions<typeof schema> = { schema, prefix: 'APP' }
  // @ts-expect-error options are read-only
  options.file = 'other.yaml'
  t.equal([missing, unknown].length, 2)
})

t.test('problems and shown settings have types', async t => {
  const places: Path[] = []
  checkSchema({ prot: 1 }, schema, (path, part, message) => {
    const kind: 'key' | 'value' = part
    // @ts-expect-error the message is a string
    const number: number = message
    places.push([...path, kind, String(number)])
  })
  t.ok(places.length > 0)
  const [shown] = showConfig(loadConfig({ schema, env: {} }))
  // @ts-expect-error a setting may have no description
  const description: string = shown?.description
  t.equal(description, null)
  const { code }: { code: 'MARTY_CONFIG_INVALID' } = new ConfigError([])
  t.equal(code, 'MARTY_CONFIG_INVALID')
})
