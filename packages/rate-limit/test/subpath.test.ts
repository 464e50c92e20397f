import { loadedPackages } from '@marty/testing/loaded-packages'
import t from 'tap'

const packagesOf = async (program: string): Promise<readonly string[]> =>
  await loadedPackages(program, import.meta.url)

t.test('@marty/rate-limit/fastify-rate-limit loads no package of others', async t => {
  const program = `
    const { slidingWindowStore } = await import("@marty/rate-limit/fastify-rate-limit")
    slidingWindowStore()
    slidingWindowStore({ redis: { evalsha () {}, eval () {}, callBuffer () {} } })
  `
  t.strictSame(await packagesOf(program), [])
})

t.test('the whole package loads what the plugin needs, so the test above can see it', async t => {
  t.strictSame(await packagesOf('await import("@marty/rate-limit")'), ['fastify-plugin'])
})
