import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { following } from './following.js'

t.setTimeout(120_000)

t.test('1,000 reloads under load: nothing is judged wrongly, thrown, or judged by two generations', async t => {
  // In either policy the caller may do one thing and not the other, and holds the role only in that one in which the
  // permission named beside it is missing.
  const text = (allowed: string, holds: boolean, comment: number): string =>
    JSON.stringify({
      version: 1,
      resources: { a: { actions: ['one', 'two'] }, [`comment${comment}`]: { actions: ['x'] } },
      roles: {
        holder: {},
        caller: {
          ...(holds ? { inherits: ['holder'] } : {}),
          allow: [allowed, { permission: 'a:two', when: `principal.id == "${allowed}"` }]
        }
      },
      environments: { prod: {} }
    })
  const { app, load } = await following(t, text('a:one', false, 0))
  const get = (url: string, security: object): void => {
    app.get(url, { config: { security } }, async () => 'done')
  }
  get('/one', { permission: 'a:one' })
  get('/two', { permission: 'a:two' })
  get('/never', { permission: 'a:one', roles: ['holder'] })
  await app.ready()
  const first = app.rbac.policy
  const [one, two, prod] = [first.permissionId('a:one')!, first.permissionId('a:two')!, first.environmentId('prod')!]
  const roles = Object.freeze(['caller'])
  const kept = first.roleSet(roles)

  const work = { isOver: false }
  const wrong: string[] = []
  const seen = new Map<string, number>()
  const decisions = async (): Promise<void> => {
    while (!work.isOver) {
      for (let time = 0; time < 20; time++) {
        const { policy } = app.rbac
        const judged = [
          policy.decideId(kept, one, prod),
          policy.decideId(kept, two, prod),
          app.can({ roles }, 'a:one'),
          app.can({ roles }, 'a:two')
        ].join()
        seen.set(judged, (seen.get(judged) ?? 0) + 1)
        if (!['true,false,true,false', 'false,true,false,true'].includes(judged)) wrong.push(judged)
        const may = app.rbac.permissionsOf({ roles }).join()
        if (may !== (judged.startsWith('true') ? 'a:one' : 'a:two')) wrong.push(may)
      }
      await setImmediate()
    }
  }
  const requests = async (url: string, expected: readonly number[]): Promise<void> => {
    while (!work.isOver) {
      const { statusCode } = await app.inject({ url, headers: { authorization: 'caller' } })
      seen.set(`${url} ${statusCode}`, (seen.get(`${url} ${statusCode}`) ?? 0) + 1)
      if (!expected.includes(statusCode)) wrong.push(`${url} ${statusCode}`)
      await setImmediate()
    }
  }
  const reloads = async (): Promise<void> => {
    try {
      for (let round = 1; round <= 1000; round++) {
        const policy = await load(round % 2 === 0 ? text('a:one', false, round % 7) : text('a:two', true, round % 7))
        if (policy.generation !== round + 1) wrong.push(`generation ${policy.generation} in round ${round}`)
      }
    } finally {
      work.isOver = true
    }
  }
  await Promise.all([
    reloads(),
    decisions(),
    requests('/one', [200, 403]),
    requests('/two', [200, 403]),
    requests('/never', [403])
  ])
  t.comment(Object.fromEntries(seen))
  t.same(wrong, [])
  for (const kind of [
    'true,false,true,false',
    'false,true,false,true',
    '/one 200',
    '/one 403',
    '/two 200',
    '/two 403'
  ]) {
    t.ok(seen.get(kind)! > 20, kind)
  }
})
