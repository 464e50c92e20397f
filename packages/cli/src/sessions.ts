import type { SessionStore } from '@marty/auth'
import { EXIT, type Command, type Values } from './command.js'
import { flag, json, principalOf, table, text } from './values.js'
import { withRedis } from './with-redis.js'

const STORE = {
  redis: { type: 'string', help: 'The Redis that holds the sessions (default: the variable MARTY_REDIS_URL)' },
  'redis-prefix': { type: 'string', help: 'Prefix of their keys in Redis (default: marty:auth)' },
  json: { type: 'boolean', help: 'Write the result as JSON' }
} as const

async function withSessions<Result> (
  values: Values,
  work: (sessions: SessionStore) => Promise<Result>
): Promise<Result> {
  const prefix = text(values, 'redis-prefix')
  const { createSessionStore } = await import('@marty/auth')
  return await withRedis(
    values,
    async redis => await work(createSessionStore({ redis, ...(prefix === undefined ? {} : { prefix }) }))
  )
}

export const sessionsList: Command = {
  name: 'sessions list',
  usage: '[--redis URL] [--principal KIND:ID] [--json]',
  summary: 'Lists the open sessions',
  options: { ...STORE, principal: { type: 'string', help: 'Only those of one principal, such as user:alice' } },
  positionals: [],
  async run (_, values, output) {
    const principal = text(values, 'principal')
    const owner = principal === undefined ? undefined : principalOf('--principal ', principal)
    const list = await withSessions(values, async sessions => await sessions.list(owner))
    const rows = list.map(one => [
      one.key,
      `${one.kind}:${one.id}`,
      one.roles.join(',') || '-',
      new Date(one.usedAt).toISOString(),
      new Date(one.expiresAt).toISOString(),
      one.address ?? '-'
    ])
    const headings = ['SESSION', 'PRINCIPAL', 'ROLES', 'LAST USED', 'ENDS', 'ADDRESS']
    const forPeople = rows.length === 0 ? 'There are no sessions.\n' : table(headings, rows)
    output.out(flag(values, 'json') ? json(list) : forPeople)
    return EXIT.ok
  }
}

export const sessionsRevoke: Command = {
  name: 'sessions revoke',
  usage: 'SESSION|KIND:ID [--redis URL] [--json]',
  summary: 'Ends one session, as listed, or every session of a principal, such as user:alice',
  options: STORE,
  positionals: ['SESSION'],
  async run ([given = ''], values, output) {
    const owner = given.includes(':') ? principalOf('', given) : null
    const ended = await withSessions(values, async sessions =>
      owner === null ? Number(await sessions.revokeByKey(given)) : await sessions.revokeAll(owner)
    )
    if (flag(values, 'json')) output.out(json({ ended }))
    // A principal without sessions is a success: the goal is already reached.
    if (ended === 0 && owner === null) {
      output.err('marty: there is no such session; name one as "marty sessions list" does\n')
      return EXIT.notFound
    }
    if (!flag(values, 'json')) output.out(`${ended === 1 ? '1 session is' : `${ended} sessions are`} over\n`)
    return EXIT.ok
  }
}
