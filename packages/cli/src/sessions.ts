import type { SessionStore } from '@marty/auth'
import { EXIT, UsageError, type Command, type Values } from './command.js'
import { flag, json, oneOf, redisUrl, table, text } from './values.js'

const STORE = {
  redis: { type: 'string', help: 'The Redis that holds the sessions (default: the variable MARTY_REDIS_URL)' },
  'redis-prefix': { type: 'string', help: 'What their names in Redis begin with (default: marty:auth)' },
  json: { type: 'boolean', help: 'Write the result as JSON' }
} as const

async function withSessions<Result> (values: Values, work: (sessions: SessionStore) => Promise<Result>): Promise<Result> {
  const [{ createSessionStore }, { openRedis }] = await Promise.all([import('@marty/auth'), import('@marty/redis')])
  const redis = openRedis({ url: redisUrl(values), commandTimeoutMs: 2_000 })
  try {
    await redis.ready(5_000)
    return await work(createSessionStore({ redis: redis.client, prefix: text(values, 'redis-prefix') ?? 'marty:auth' }))
  } finally {
    await redis.close()
  }
}

/** `user:alice`. */
function principalOf (given: string): { readonly kind: 'user' | 'service' | 'key', readonly id: string } {
  const colon = given.indexOf(':')
  if (colon < 1 || colon === given.length - 1) throw new UsageError(`--principal "${given}" must be KIND:ID, such as user:alice`)
  return { kind: oneOf('principal', given.slice(0, colon), ['user', 'service', 'key']), id: given.slice(colon + 1) }
}

export const sessionsList: Command = {
  name: 'sessions list',
  usage: '[--redis URL] [--principal KIND:ID] [--json]',
  summary: 'Lists the sessions that are open',
  options: { ...STORE, principal: { type: 'string', help: 'Only those of one principal, such as user:alice' } },
  positionals: [],
  async run (_, values, output) {
    const given = text(values, 'principal')
    const principal = given === undefined ? undefined : principalOf(given)
    const list = await withSessions(values, async sessions => await sessions.list(principal))
    output.out(flag(values, 'json')
      ? json(list)
      : list.length === 0
        ? 'There are no sessions.\n'
        : table(['SESSION', 'PRINCIPAL', 'ROLES', 'LAST USED', 'ENDS', 'ADDRESS'], list.map(one => [
          one.key, `${one.kind}:${one.id}`, one.roles.join(',') || '-', new Date(one.usedAt).toISOString(), new Date(one.expiresAt).toISOString(), one.address ?? '-'
        ])))
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
    const principal = given.includes(':') ? principalOf(given) : null
    const ended = await withSessions(values, async sessions => principal === null ? Number(await sessions.revokeByKey(given)) : await sessions.revokeAll(principal))
    output.out(flag(values, 'json') ? json({ ended }) : `${ended === 1 ? '1 session is' : `${ended} sessions are`} over\n`)
    return ended === 0 && principal === null ? EXIT.notFound : EXIT.ok
  }
}
