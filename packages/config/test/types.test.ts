import t from 'tap'
import { Type } from 'typebox'
import { loadConfig } from '@marty/config'

t.test('the value has the type of the schema, and cannot be written', async t => {
  const { value } = loadConfig({ schema: Type.Object({ port: Type.Integer({ default: 1 }), hosts: Type.Array(Type.String(), { default: ['a'] }) }), env: {} })
  const port: number = value.port
  // @ts-expect-error the type of a setting is known
  const host: number = value.hosts[0]
  // @ts-expect-error settings are read-only
  t.throws(() => { value.port = 2 }, TypeError)
  // @ts-expect-error lists are read-only
  t.throws(() => value.hosts.push('b'), TypeError)
  t.same([port, host], [1, 'a'])
})
