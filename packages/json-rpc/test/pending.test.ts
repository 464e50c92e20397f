import t from 'tap'
import { Type } from 'typebox'
import { defineError, type Principal } from '@marty/core'
import { Client, createService, type Service } from './service.js'

declare module '@marty/core' {
  interface SecurityRule {
    /** Says whose thing it is, when the input is known: only that person may. */
    testOwner? (input: object): string | Promise<string>
  }
}

const NotOwner = defineError({ name: 'NotOwner', code: 'TEST_NOT_OWNER', statusCode: 403, message: 'It is not yours' })

async function serve (t: Parameters<typeof createService>[0]): Promise<Service & { readonly seen: string[] }> {
  const service = await createService(t)
  const { guard, rpc } = service.app
  const seen: string[] = []
  guard.addCheck({
    name: 'test-owner',
    stage: 'authorize',
    keys: ['testOwner'],
    compile ({ rule: { testOwner } }) {
      if (testOwner === undefined) return null
      const load = testOwner as (...input: readonly unknown[]) => string | Promise<string>
      return call => {
        if (call.principal.roles.includes('viewer')) throw new NotOwner()
        call.pending = async call => {
          seen.push('owner')
          if (await load(...call.input) !== call.principal.id) throw new NotOwner()
        }
      }
    }
  })
  guard.addCheck({
    name: 'test-written',
    stage: 'authorize',
    keys: [],
    compile: ({ name }) =>
      name === 'edit'
        ? () => {
            seen.push('written')
          }
        : null
  })
  rpc.method({
    name: 'edit',
    security: { testOwner: ({ owner }, { principal }) => owner === 'me' ? principal.id : owner, audit: 'all' },
    params: Type.Object({ owner: Type.String() }),
    handler: ({ owner }) => { seen.push('handler'); return owner }
  })
  rpc.method({
    name: 'may',
    security: { public: true },
    handler: (_params, { can }) => can('anything', { owner: 'me' })
  })
  await service.listen()
  return { ...service, seen }
}

const bearer = (who: string) => ({ headers: { authorization: `Bearer ${who}` } })

t.test('what hangs on the params is decided when they are read, before anything is done', async t => {
  const { url, seen, events } = await serve(t)
  const viewer = await Client.connect(t, url(), bearer('eve:viewer'))
  t.match(
    await viewer.call('edit', { owner: 5 }),
    { error: { code: -32002, data: { code: 'TEST_NOT_OWNER' } } },
    'refused before the params are looked at'
  )
  t.same(seen, [])

  const ada = await Client.connect(t, url(), bearer('ada:operator'))
  t.match(await ada.call('edit', { owner: 5 }), { error: { code: -32602 } })
  t.same(seen, [], 'nothing is asked about params that are wrong')
  const before = events.length
  t.match(await ada.call('edit', { owner: 'bob' }), { error: { code: -32002, data: { code: 'TEST_NOT_OWNER' } } })
  t.same(seen.splice(0), ['owner'])
  t.equal(events.length, before + 1, 'a refusal is told once')
  t.match(events.at(-1), { type: 'authorization', outcome: 'denied', action: 'edit', principal: { id: 'ada' } })
  t.match(await ada.call('edit', { owner: 'me' }), { result: 'me' })
  t.same(seen.splice(0), ['owner', 'written', 'handler'], 'checks behind the open decision wait for it')
  t.match(events.at(-1), { type: 'operation', outcome: 'success' })
})

t.test('in a batch each call is decided by itself, and notifications too', async t => {
  const { url, seen } = await serve(t)
  const ada = await Client.connect(t, url(), bearer('ada:operator'))
  const call = (owner: string, id?: number): object => ({
    jsonrpc: '2.0',
    method: 'edit',
    params: { owner },
    ...(id === undefined ? {} : { id })
  })
  t.match(await ada.ask([call('bob', 1), call('ada', 2), call('bob'), call('eve', 3)]), [
    { id: 1, error: { code: -32002 } },
    { id: 2, result: 'ada' },
    { id: 3, error: { code: -32002 } }
  ])
  t.equal(seen.filter(step => step === 'handler').length, 1)
})

t.test('handlers ask whoever decides about permissions; without such a plugin that is an error', async t => {
  const { url, app, logs } = await serve(t)
  const ada = await Client.connect(t, url(), bearer('ada:operator'))
  t.match(await ada.call('may'), { error: { code: -32603 } })
  t.ok(logs.some(line => line.includes('no registered plugin decides about permissions')))
  const asked: unknown[] = []
  app.guard.setAuthorizer(
    (principal: Principal, permission, resource) => asked.push(principal.id, permission, resource) > 0
  )
  t.match(await ada.call('may'), { result: true })
  t.same(asked, ['ada', 'anything', { owner: 'me' }])
})
