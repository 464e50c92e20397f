import Fastify from 'fastify'
import { auth, type Sessions } from '@marty/auth'
import type { Principal } from '@marty/core'
import { openRedis } from '@marty/redis'
import { TOKENS } from '@marty/testing/tokens'
import { principal } from './service.js'

/**
 * What the replica is asked over its channel: a function of its sessions, or whether a principal it remembers is alive.
 */
export type Question =
  | { readonly ask: 'create', readonly who: string, readonly count: number }
  | { readonly ask: 'get' | 'revoke', readonly id: string }
  | { readonly ask: 'revokeAll', readonly who: string }
  | { readonly ask: 'remember', readonly id: string }
  | { readonly ask: 'isAlive' | 'peek' }

/** One replica of a service, in a process of its own, that keeps its sessions in the Redis of its first argument. */
const redis = openRedis({ url: `redis://127.0.0.1:${process.argv[2]!}`, commandTimeoutMs: 500 })
await redis.ready(10_000)
const app = Fastify()
await app.register(auth, { ...TOKENS, store: { redis: redis.client, prefix: 'replicas' } })
await app.ready()
const sessions: Sessions = app.auth.sessions!
let remembered: Principal

async function answer (question: Question): Promise<unknown> {
  switch (question.ask) {
    case 'create': {
      const made = await Promise.allSettled(
        Array.from({ length: question.count }, async () => (await sessions.create(principal(question.who))).id)
      )
      return made.map(one => one.status === 'fulfilled' ? one.value : null)
    }
    case 'get': return (await sessions.get(question.id))?.id ?? null
    case 'revoke': return await sessions.revoke(question.id)
    case 'revokeAll': return await sessions.revokeAll({ kind: 'user', id: question.who })
    case 'remember':
      remembered = await app.guard.authenticate(question.id, { address: null, requestId: '1' })
      return remembered.id
    case 'isAlive': return await app.guard.isAlive(remembered)
    case 'peek': return await app.guard.isAlive(remembered, true)
  }
}

process.on('message', ({ number, question }: { number: number, question: Question }) => {
  answer(question).then(
    value => { process.send!({ number, value }) },
    (error: { code?: string }) => { process.send!({ number, code: error.code ?? String(error) }) }
  )
})
process.send!('ready')
