import type { BudgetName, LimitAdmin } from '@marty/rate-limit'
import { EXIT, UsageError, type Command, type Values } from './command.js'
import { flag, json, principalOf, table, text, texts } from './values.js'
import { withRedis } from './with-redis.js'

const STORE = {
  redis: { type: 'string', help: 'The Redis that holds the limits (default: the variable MARTY_REDIS_URL)' },
  'redis-prefix': { type: 'string', help: 'Prefix of their keys in Redis (default: marty:limit)' },
  json: { type: 'boolean', help: 'Write the result as JSON' }
} as const
const WHO = {
  address: { type: 'string', help: 'The address, for rules that count by it; IPv6 means its /64' },
  principal: { type: 'string', help: 'The principal, such as user:alice' },
  tenant: { type: 'string', help: 'The tenant' },
  account: { type: 'string', help: 'The account that the caller claims to own, as the service spells it' },
  operation: { type: 'string', help: 'The operation, such as "GET /cameras/:id" or take_snapshot' }
} as const

async function withLimits<Result> (values: Values, work: (limits: LimitAdmin) => Promise<Result>): Promise<Result> {
  const prefix = text(values, 'redis-prefix')
  const { createLimitAdmin } = await import('@marty/rate-limit')
  return await withRedis(
    values,
    async redis => await work(createLimitAdmin({ redis, ...(prefix === undefined ? {} : { prefix }) }))
  )
}

/** Reads `login --address 203.0.113.7`, or a key as `limits top` prints it. */
function budgetOf (given: string, values: Values): string | BudgetName {
  const words = Object.keys(WHO).filter(name => values[name] !== undefined)
  if (given.includes(':')) {
    if (words.length > 0) throw new UsageError(`"${given}" is a key and says who is meant; leave out --${words[0]!}`)
    return given
  }
  const principal = text(values, 'principal')
  const roles = texts(values, 'role')
  return {
    rule: given,
    ...Object.fromEntries(words.map(name => [name, text(values, name)])),
    ...(principal === undefined
      ? {}
      : { principal: { ...principalOf('--principal ', principal), ...(roles.length === 0 ? {} : { roles }) } })
  }
}

export const limitsShow: Command = {
  name: 'limits show',
  usage:
    'KEY | RULE [--address A] [--principal KIND:ID [--role R]...] [--tenant T] [--account NAME] [--operation O] ' +
      '[--redis URL] [--json]',
  summary: 'Shows how much of a limit a caller has used; charges nothing',
  options: {
    ...STORE,
    ...WHO,
    role: {
      type: 'string',
      multiple: true,
      help: 'A role of the principal, when the limit depends on it; can be repeated'
    }
  },
  positionals: ['RULE'],
  async run ([given = ''], values, output) {
    const budget = budgetOf(given, values)
    const state = await withLimits(values, async limits => await limits.show(budget))
    const { key, limit, windowMs, used, remaining, retryAfterMs } = state
    output.out(
      flag(values, 'json')
        ? json(state)
        : table(
          ['KEY', 'USED', 'LIMIT', 'WINDOW', 'REMAINING', 'NEXT FITS'],
          [
            [
              key,
              String(used),
              orUnknown(limit),
              windowMs === null ? '?' : time(windowMs),
              orUnknown(remaining),
              retryAfterMs === null ? '?' : wait(retryAfterMs)
            ]
          ]
        )
    )
    return EXIT.ok
  }
}

export const limitsReset: Command = {
  name: 'limits reset',
  usage:
    'KEY | RULE [--address A] [--principal KIND:ID] [--tenant T] [--account NAME] [--operation O] [--redis URL] [--json]',
  summary: 'Empties a budget, in every process within about a second',
  options: { ...STORE, ...WHO },
  positionals: ['RULE'],
  async run ([given = ''], values, output) {
    const budget = budgetOf(given, values)
    const done = await withLimits(values, async limits => await limits.reset(budget))
    // If nothing was used, the goal of the reset is already reached: this is a success.
    output.out(flag(values, 'json') ? json(done) : `${done.key} ${done.wasUsed ? 'is empty again' : 'was not used'}\n`)
    return EXIT.ok
  }
}

export const limitsTop: Command = {
  name: 'limits top',
  usage: '[--count N] [--redis URL] [--json]',
  summary: 'Lists the budgets that refuse requests now, or did within the last minute',
  options: { ...STORE, count: { type: 'string', help: 'How many at most (default: 20)' } },
  positionals: [],
  async run (_, values, output) {
    const count = text(values, 'count') ?? '20'
    if (!/^[1-9]\d{0,3}$/.test(count)) throw new UsageError(`--count "${count}" is not a number from 1 to 9999`)
    const list = await withLimits(values, async limits => await limits.top(Number(count)))
    const rows = list.map(({ key, refusals, retryAfterMs }) => [key, String(refusals), wait(retryAfterMs)])
    const forPeople = rows.length === 0 ? 'Nobody is refused.\n' : table(['KEY', 'REFUSALS', 'NEXT FITS'], rows)
    output.out(flag(values, 'json') ? json(list) : forPeople)
    return EXIT.ok
  }
}

function orUnknown (value: number | null): string {
  return value === null ? '?' : String(value)
}

function wait (milliseconds: number): string {
  return milliseconds === 0 ? 'now' : `in ${time(milliseconds)}`
}

const UNITS = [['d', 86_400_000], ['h', 3_600_000], ['m', 60_000], ['s', 1000], ['ms', 1]] as const

/** Formats a duration with its two largest units: `5m`, `1h 30m`, `12s 345ms`. */
function time (milliseconds: number): string {
  const parts = []
  let rest = milliseconds
  for (const [unit, size] of UNITS) {
    if (rest >= size) parts.push(`${Math.floor(rest / size)}${unit}`)
    rest %= size
  }
  return parts.slice(0, 2).join(' ')
}
