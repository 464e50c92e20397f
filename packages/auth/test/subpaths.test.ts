import { loadedPackages } from '@marty/testing/loaded-packages'
import t from 'tap'

const packagesOf = async (program: string): Promise<readonly string[]> =>
  await loadedPackages(program, import.meta.url)

t.test('@marty/auth/jwt loads no package of others', async t => {
  t.strictSame(await packagesOf('await import("@marty/auth/jwt")'), [])
})

t.test('@marty/auth/api-keys loads bcrypt only when keys are hashed with it', async t => {
  t.strictSame(await packagesOf('await import("@marty/auth/api-keys")'), [])
  const create = (hash: string): string => `
    const { createApiKeys, createMemoryApiKeyStore } = await import("@marty/auth/api-keys")
    const pepper = "Zk3vQ8mW1xT5rN7bY2cJ9hL4gD6fS0aPqEuRiOwX"
    const keys = createApiKeys({ store: createMemoryApiKeyStore(), prefix: "cam", environment: "test", pepper, hash: "${hash}" })
    const { key } = await keys.create({ name: "recorder", roles: [], expiresInSeconds: 60 })
    await keys.verify(key)
  `
  t.strictSame(await packagesOf(create('hmac-sha256')), [])
  t.match(await packagesOf(create('bcrypt')), ['bcrypt'])
})

t.test('@marty/auth/sessions loads no package of others', async t => {
  t.strictSame(await packagesOf('await import("@marty/auth/sessions")'), [])
})

t.test('the whole package loads what the plugin needs, so the test above can see it', async t => {
  t.match(new Set(await packagesOf('await import("@marty/auth")')), new Set(['@fastify/jwt', 'fastify-plugin']))
})
