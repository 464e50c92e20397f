import { Agent, get } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import type { SigningKeys } from '../dist/jwt/keys.js'
import { cacheVerifiedTokens } from '../dist/jwt/verified-token-cache.js'
import { build } from './service.js'

const key = { kid: 'k1' }

interface CountingCache {
  readonly verify: ReturnType<typeof cacheVerifiedTokens>
  readonly calls: string[]
  readonly keys: Map<string, object>
}

/** A verifier that counts its calls; a token is the name of its subject and the second in which it ends. */
function countingCache (maxEntries?: number): CountingCache {
  const calls: string[] = []
  const keys = new Map<string, object>([['k1', key]])
  const verifier = (token: string): object => {
    calls.push(token)
    const [sub = '', exp = ''] = token.split(' ')
    if (sub === 'wrong') throw new Error('wrong')
    return { claims: { sub, exp: Number(exp), roles: [] }, key }
  }
  const keyring = { find: (kid: string) => keys.get(kid) } as unknown as SigningKeys
  return { verify: cacheVerifiedTokens(verifier as never, keyring, maxEntries), calls, keys }
}

t.test('a token is verified once, with and without a connection, until its key is gone or it has expired', async t => {
  const { verify, calls, keys } = countingCache()
  const [one, other] = [{}, {}]
  const later = Math.floor(Date.now() / 1000) + 60
  for (const connection of [one, other, null, one]) t.equal(verify(`ada ${later}`, connection).id, 'ada')
  for (const token of [`bob ${later}`, `ada ${later}`, `bob ${later}`]) {
    t.equal(verify(token, one).id, token.slice(0, 3), 'two tokens in turn on one connection')
  }
  t.throws(() => verify('wrong 0', one))
  t.equal(verify(`ada ${later}`, one).id, 'ada', 'a wrong token takes nobody over')
  t.strictSame(calls, [`ada ${later}`, `bob ${later}`, 'wrong 0'])

  keys.set('k1', { kid: 'k1' })
  for (const connection of [one, null]) verify(`ada ${later}`, connection)
  t.equal(calls.length, 5, 'another key of the same name: verified each time')

  const past = Math.floor(Date.now() / 1000) - 1
  for (const connection of [one, one, null]) verify(`eve ${past}`, connection)
  t.equal(calls.filter(token => token.startsWith('eve')).length, 3, 'an expired token is never taken from the cache')
})

t.test('at least the last `maxEntries` tokens are cached, at most twice as many', async t => {
  const { verify, calls } = countingCache(10)
  const later = Math.floor(Date.now() / 1000) + 60
  const tokens = Array.from({ length: 100 }, (_, i) => `user${i} ${later}`)
  for (const token of tokens) verify(token, null)
  for (const token of tokens.slice(-10)) verify(token, null)
  t.equal(calls.length, 100, 'the last ten are known')
  for (const token of tokens.slice(0, 80)) verify(token, null)
  t.equal(calls.length, 180, 'the first eighty are forgotten')
  const inUse = `always ${later}`
  for (const token of tokens) {
    verify(inUse, null)
    verify(token, null)
  }
  t.equal(calls.filter(token => token === inUse).length, 1, 'a token in use stays')
})

t.test('over one kept-alive connection, each request has the caller of its own token', async t => {
  const app = await build(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => { agent.destroy() })
  const sockets = new Set<unknown>()
  const who = async (token: string): Promise<unknown> => await new Promise((resolve, reject) => {
    get({ port, agent, path: '/who', headers: { authorization: `Bearer ${token}` } }, response => {
      sockets.add(response.socket)
      const { statusCode } = response
      void text(response).then(body => { resolve(statusCode === 200 ? JSON.parse(body).id : statusCode) }, reject)
    }).on('error', reject)
  })
  const { auth: { tokens } } = app
  const [ada, bob] = ['ada', 'bob'].map(subject => tokens.issue({ subject }).token) as [string, string]
  const answers = []
  for (const token of [ada, ada, bob, ada, `${ada.slice(0, -2)}AA`, bob]) answers.push(await who(token))
  t.strictSame(answers, ['ada', 'ada', 'bob', 'ada', 401, 'bob'])
  await tokens.revokeSubject('ada')
  t.strictSame([await who(bob), await who(ada), await who(ada), await who(bob)], ['bob', 401, 401, 'bob'])
  t.equal(sockets.size, 1)
})
