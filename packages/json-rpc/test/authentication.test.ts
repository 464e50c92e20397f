import t from 'tap'
import { until } from '@marty/testing'
import { Client, createService, refusal } from './service.js'

t.test('without a credential, with a wrong one, with too little, with the right one', async t => {
  const { listen, url, events, logs } = await createService(t)
  await listen()
  const client = await Client.connect(t, url())
  t.match(await client.call('view'), { error: { code: -32001, data: { code: 'MARTY_CORE_UNAUTHENTICATED' } } })
  for (const token of ['nonsense', 'alice:root', ':viewer']) {
    const { error } = await client.call('authenticate', { auth_token: token })
    t.match(error, { code: -32001, data: { code: 'MARTY_CORE_CREDENTIAL_INVALID' } }, token)
    t.notMatch(JSON.stringify(error), token)
  }
  t.match(await client.call('authenticate', { auth_token: 5 }), { error: { code: -32602 } })
  t.match(
    await client.call('authenticate', { auth_token: 'broken:viewer' }),
    { error: { code: -32603 } },
    'a broken store is no wrong credential'
  )
  t.match(await client.call('view'), { error: { code: -32001 } })
  t.match((await client.call('authenticate', { auth_token: 'alice:viewer' })).result, {
    authenticated: true,
    role: 'viewer',
    roles: ['viewer'],
    expires_at: /^\d{4}-/
  })
  t.equal((await client.call('view')).result, 'alice')
  t.match(await client.call('operate'), { error: { code: -32002 } })
  t.match(await client.call('authenticate', { auth_token: 'forged:root' }), { error: { code: -32001 } })
  t.equal((await client.call('view')).result, 'alice', 'a failed second try changes nothing')
  t.match(
    events
      .filter(({ type, action }) => type === 'authentication' && action === 'authenticate')
      .map(({ outcome, principal }) => [outcome, principal.id]),
    [
      ['failure', 'anonymous'],
      ['failure', 'anonymous'],
      ['failure', 'anonymous'],
      ['success', 'alice'],
      ['failure', 'anonymous']
    ]
  )
  t.notMatch(logs.join(''), /alice:viewer|forged:root/, 'tokens are not logged')
})

t.test('guessing is limited', async t => {
  const { listen, url } = await createService(t, { maxFailures: 2 })
  await listen()
  const client = await Client.connect(t, url())
  for (let attempt = 0; attempt < 2; attempt++) {
    t.match(await client.call('authenticate', { auth_token: 'a:b' }), { error: { code: -32001 } })
  }
  t.match(await client.call('authenticate', { auth_token: 'a:b' }), {
    error: { code: -32040, data: { code: 'TEST_LIMITED', retry_after_ms: 7000 } }
  })
  t.match(await refusal(t, url(), { headers: { authorization: 'Bearer a:b' } }), {
    status: 429,
    headers: { 'retry-after': '7' }
  })
})

t.test('calls sent right behind authenticate are made with it', async t => {
  const { listen, url } = await createService(t)
  await listen()
  const client = await Client.connect(t, url())
  const answers = await Promise.all([
    client.call('view'),
    client.call('authenticate', { auth_token: 'alice:viewer' }),
    client.call('view'),
    client.call('view')
  ])
  t.match(answers[0], { error: { code: -32001 } })
  t.match(answers.slice(2), [{ result: 'alice' }, { result: 'alice' }])
})

t.test('a credential of the upgrade request authenticates, and an invalid one is refused before the upgrade', async t => {
  const { listen, url, events } = await createService(t)
  await listen()
  const wrong = await refusal(t, url(), { headers: { authorization: 'Bearer nobody:root' } })
  t.match(wrong, {
    status: 401,
    headers: { 'content-type': /application\/problem\+json/ },
    body: { code: 'MARTY_CORE_CREDENTIAL_INVALID' }
  })
  const client = await Client.connect(t, url(), { headers: { authorization: 'Bearer alice:viewer' } })
  t.equal((await client.call('view')).result, 'alice')
  t.match(
    events.filter(({ action }) => action === 'connect').map(({ outcome, principal }) => [outcome, principal.id]),
    [
      ['failure', 'anonymous'],
      ['success', 'alice']
    ]
  )
})

t.test('a credential that expires makes the open connection anonymous', async t => {
  const { app, listen, url } = await createService(t, { lifetimeMs: 300 })
  await listen()
  const client = await Client.connect(t, url(), { headers: { authorization: 'Bearer alice:viewer' } })
  t.equal((await client.call('who')).result, 'alice')
  await until(() => app.rpc.connections()[0]?.principal.id === 'anonymous')
  t.equal((await client.call('who')).result, 'anonymous', 'public methods do not see it either')
  t.match(await client.call('view'), { error: { code: -32001, data: { code: 'MARTY_CORE_CREDENTIAL_INVALID' } } })
  t.match(await client.call('view'), { error: { code: -32001, data: { code: 'MARTY_CORE_UNAUTHENTICATED' } } })
  t.equal(app.rpc.notify('news', {}), 0, 'it hears nothing more')
  t.match((await client.call('authenticate', { auth_token: 'bob:viewer' })).result, { authenticated: true })
  t.equal((await client.call('view')).result, 'bob')
})

t.test('a credential that is revoked stops notifications without a call or a ping', async t => {
  const { app, listen, url, revoked } = await createService(t)
  await listen()
  const client = await Client.connect(t, url(), { headers: { authorization: 'Bearer alice:viewer' } })
  t.equal(app.rpc.notify('news', {}), 1)
  revoked.add('alice')
  await until(() => app.rpc.notify('news', {}) === 0)
  t.match(await client.call('view'), { error: { code: -32001 } })
})

t.test('connections that must authenticate and do not are closed', async t => {
  const { listen, url } = await createService(t, { authenticationTimeoutMs: 50 })
  await listen()
  const silent = await Client.connect(t, url())
  const known = await Client.connect(t, url(), { headers: { authorization: 'Bearer alice:viewer' } })
  await until(() => silent.closed !== null)
  t.equal(silent.closed?.code, 4401)
  t.equal((await known.call('view')).result, 'alice')
})

t.test('what authenticate is called and answers is the service\'s choice', async t => {
  const { listen, url } = await createService(t, {
    authenticateMethod: 'login',
    describePrincipal: async ({ id }) => ({ welcome: id })
  })
  await listen()
  const client = await Client.connect(t, url())
  t.match(await client.call('authenticate', { auth_token: 'alice:viewer' }), { error: { code: -32601 } })
  t.same((await client.call('login', { auth_token: 'alice:viewer' })).result, { welcome: 'alice' })
})
