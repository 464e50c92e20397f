import t from 'tap'
import { Type } from 'typebox'
import { createService } from './service.js'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false

t.test('params and results have the types of their schemas', async t => {
  const { app } = await createService(t)
  app.rpc.method({
    name: 'typed',
    security: { public: true },
    params: Type.Object({ device: Type.String(), quality: Type.Optional(Type.Integer()) }),
    result: Type.Object({ size: Type.Integer() }),
    handler: params => {
      const same: Equal<typeof params, { device: string, quality?: number }> = true
      return { size: same ? params.device.length : 0 }
    }
  })
  app.rpc.method({
    name: 'mistyped',
    security: { public: true },
    result: Type.Object({ size: Type.Integer() }),
    // @ts-expect-error a text is no size
    handler: async () => ({ size: 'large' })
  })
  // @ts-expect-error who may call it is missing
  app.rpc.method({ name: 'forgotten', handler: () => null })
  t.same(app.rpc.methods().map(({ name }) => name).slice(-2), ['typed', 'mistyped'])
})
