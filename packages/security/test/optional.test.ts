import t from 'tap'
import { createService } from './service.js'

t.test("authenticate: 'optional' knows the caller, lets anonymous ones in, and refuses a wrong credential", async t => {
  const { app, bearer, logs } = await createService(t)
  app.get('/articles', { config: { security: { authenticate: 'optional', limits: ['few'] } } }, async request => {
    return [request.principal.kind, request.principal.id]
  })
  const get = async (headers: Record<string, string>, remoteAddress = '192.0.2.1'): Promise<[number, unknown]> => {
    const answer = await app.inject({ url: '/articles', headers, remoteAddress })
    return [answer.statusCode, answer.statusCode === 200 ? answer.json()[1] : answer.json().code]
  }
  t.strictSame(await get(bearer('ada', 'reader')), [200, 'ada'])
  t.strictSame(await get({}), [200, 'anonymous'])
  t.strictSame(await get({ authorization: 'Bearer x.y.z' }), [401, 'MARTY_CORE_CREDENTIAL_INVALID'])
  t.strictSame(await get({ 'x-api-key': 'x', authorization: 'Bearer x' }), [401, 'MARTY_CORE_CREDENTIAL_INVALID'])
  t.strictSame(await get({}), [200, 'anonymous'])
  t.strictSame(await get({}), [429, 'MARTY_RATE_LIMIT_EXCEEDED'], 'anonymous callers are counted by address')
  t.strictSame(await get(bearer('ada', 'reader')), [200, 'ada'], 'and callers with an identity by it')
  t.match(logs.join(''), /public: .*GET \/articles/, 'the start says that anyone may call it')
  t.match(app.security.report().find(({ name }) => name === 'GET /articles'), { who: 'anyone, or signed in' })
})

t.test("authenticate: 'optional' with a permission or roles, or misspelt, stops the start", async t => {
  for (const [rule, message] of [
    [{ authenticate: 'optional', permission: 'report:read' }, /"optional" excludes security\.permission/],
    [{ authenticate: 'optional', roles: ['reader'] }, /"optional" excludes security\.roles/],
    [{ authenticate: 'optional', public: true }, /security\.public excludes security\.authenticate/],
    [{ authenticate: 'optionl' }, /must be true, "optional" or a list of methods/]
  ] as const) {
    const { app } = await createService(t)
    app.get('/x', { config: { security: rule as never } }, async () => 'x')
    await t.rejects(async () => await app.ready(), { code: 'MARTY_CORE_RULE_INVALID', message })
  }
})

t.test('limits: { only } replaces the limits of every route', async t => {
  const { app } = await createService(t, options => ({
    ...options,
    limits: {
      rules: {
        all: { limit: 1, windowMs: 60_000, by: 'address' },
        few: { limit: 2, windowMs: 60_000, by: 'address' }
      },
      apply: { http: ['all'] }
    }
  }))
  app.get('/both', { config: { security: { public: true, limits: ['few'] } } }, async () => 'ok')
  app.get('/few', { config: { security: { public: true, limits: { only: ['few'] } } } }, async () => 'ok')
  const statuses = async (url: string): Promise<number[]> => {
    const answers = []
    for (let i = 0; i < 3; i++) answers.push((await app.inject({ url, remoteAddress: `${url.length}.0.0.1` })).statusCode)
    return answers
  }
  t.strictSame(await statuses('/both'), [200, 429, 429])
  t.strictSame(await statuses('/few'), [200, 200, 429])
  const report = new Map(app.security.report().map(({ name, limits }) => [name, limits]))
  t.strictSame([report.get('GET /both'), report.get('GET /few')], [['all', 'few'], ['few']])
})

t.test('limits: { only } without a rule, or with anything else, stops the start', async t => {
  for (const limits of [{ only: [] }, { only: 'few' }, { only: ['few'], also: [] }, { onli: ['few'] }, {}]) {
    const { app } = await createService(t)
    app.get('/x', { config: { security: { public: true, limits: limits as never } } }, async () => 'x')
    const message = /must be a list of rule names and rules, \{ only: \[\.\.\.\] \}/
    await t.rejects(async () => await app.ready(), { code: 'MARTY_CORE_RULE_INVALID', message }, JSON.stringify(limits))
  }
  const { app } = await createService(t)
  app.get('/x', { config: { security: { public: true, limits: { only: ['fwe'] } } } }, async () => 'x')
  await t.rejects(async () => await app.ready(), { message: /did you mean "few"/ })
})
