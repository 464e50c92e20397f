import { checkOptions, type OptionTable } from '@marty/core'
import type { FastifyRequest } from 'fastify'
import { MAX_LIMIT, MAX_WINDOW_MS, optionInvalid, SCOPE } from '../option-scope.js'

type Hook = 'onRequest' | 'preParsing' | 'preValidation' | 'preHandler'
type Setting<T> =
  T | ((request: FastifyRequest, key: string) => number) | ((request: FastifyRequest, key: string) => Promise<number>)

/**
 * The options of `@fastify/rate-limit`, except those of its store: use `store` and `maxKeys` of this plugin. They are
 * declared here because importing the types of that plugin would add `fastify.rateLimit` to every application,
 * registered or not. For the types of `config.rateLimit` and `fastify.rateLimit`, import that package.
 */
export interface FastifyRateLimitSettings {
  /** Whether routes without `config.rateLimit` are limited. @default true */
  global?: boolean
  /** Requests in every window. @default 1000 */
  max?: Setting<number>
  /** Milliseconds, or a string such as `1 minute`. @default 60000 */
  timeWindow?: Setting<number | string>
  /** @default 'onRequest' */
  hook?: Hook
  /** Number of refusals within a window after which the response is 403. @default none */
  ban?: number
  allowList?: string[] | ((request: FastifyRequest, key: string) => boolean | Promise<boolean>)
  /** @default the client's address; IPv6 by its /64 */
  keyGenerator?: (request: FastifyRequest) => string | number | Promise<string | number>
  ipv6Subnet?: number
  /** Admits requests when the store fails. @default false */
  skipOnError?: boolean
  enableDraftSpec?: boolean
  /** Which header fields are sent, by their names. */
  addHeaders?: Partial<
    Record<`${'x-ratelimit' | 'ratelimit'}-${'limit' | 'remaining' | 'reset'}` | 'retry-after', boolean>
  >
  addHeadersOnExceeding?: Partial<Record<`${'x-ratelimit' | 'ratelimit'}-${'limit' | 'remaining' | 'reset'}`, boolean>>
  errorResponseBuilder?: (request: FastifyRequest, context: FastifyRateLimitRefusal) => object
  onExceeding?: (request: FastifyRequest, key: string) => void
  onExceeded?: (request: FastifyRequest, key: string) => void
  onBanReach?: (request: FastifyRequest, key: string) => void
}

/** The argument of `errorResponseBuilder`. */
export interface FastifyRateLimitRefusal {
  statusCode: number
  ban: boolean
  /** The waiting time in words. */
  after: string
  max: number
  /** Milliseconds until the next request fits. */
  ttl: number
}

/** What `@fastify/rate-limit` accepts in JavaScript as well; its store refuses both when they are true. */
interface ProlongingSettings {
  continueExceeding?: boolean
  exponentialBackoff?: boolean
}

type PluginSettings = FastifyRateLimitSettings & ProlongingSettings
type RouteSettings = Omit<PluginSettings, 'global'> & { groupId?: string }

const HEADERS = ['limit', 'remaining', 'reset'].flatMap(name => [`x-ratelimit-${name}`, `ratelimit-${name}`])

/** Settings of both a route and the plugin. None has a default here: `@fastify/rate-limit` has its own. */
const COMMON: OptionTable<Omit<PluginSettings, 'global'>, Omit<PluginSettings, 'global'>> = {
  max: {
    kind: 'either',
    kinds: [{ kind: 'integer', min: 0, max: MAX_LIMIT }, { kind: 'function' }],
    optional: true,
    defaultText: '1000',
    about: 'Requests in every window.'
  },
  timeWindow: {
    kind: 'either',
    kinds: [
      { kind: 'integer', min: 1, max: MAX_WINDOW_MS },
      { kind: 'string', expected: 'a string such as "1 minute"' },
      { kind: 'function' }
    ],
    optional: true,
    defaultText: '60000',
    about: 'Length of the window; a number counts milliseconds.'
  },
  hook: {
    kind: 'choice',
    choices: ['onRequest', 'preParsing', 'preValidation', 'preHandler'],
    optional: true,
    defaultText: '`onRequest`',
    about: 'When a request is counted.'
  },
  ban: {
    kind: 'integer',
    min: -1,
    max: MAX_LIMIT,
    optional: true,
    about: 'Number of refusals within a window after which the response is 403; -1 for none.'
  },
  allowList: {
    kind: 'custom',
    // A string has an `indexOf` too, so it would exempt every client whose key is a part of it.
    expected: 'a list or a function',
    accepts: value => Array.isArray(value) || typeof value === 'function',
    optional: true,
    about: 'The keys that are not limited.'
  },
  keyGenerator: {
    kind: 'function',
    optional: true,
    defaultText: "the client's address",
    about: 'Returns the key by which a request is counted.'
  },
  ipv6Subnet: {
    kind: 'integer',
    min: 0,
    max: 128,
    optional: true,
    defaultText: '64',
    about: 'Length of the prefix by which IPv6 addresses are counted.'
  },
  skipOnError: {
    kind: 'boolean',
    optional: true,
    defaultText: '`false`',
    about: 'Admits requests when the store fails.'
  },
  enableDraftSpec: {
    kind: 'boolean',
    optional: true,
    defaultText: '`false`',
    about: 'Names the header fields `ratelimit-*` instead of `x-ratelimit-*`.'
  },
  addHeaders: {
    kind: 'record',
    names: [...HEADERS, 'retry-after'],
    values: { kind: 'boolean' },
    optional: true,
    defaultText: 'all',
    about: 'Which header fields a refusal has, by their names.'
  },
  addHeadersOnExceeding: {
    kind: 'record',
    names: HEADERS,
    values: { kind: 'boolean' },
    optional: true,
    defaultText: 'all',
    about: 'Which header fields an admitted request has, by their names.'
  },
  errorResponseBuilder: {
    kind: 'function',
    optional: true,
    defaultText: 'a problem document',
    about: 'Returns the response to a request that is refused.'
  },
  onExceeding: { kind: 'function', optional: true, about: 'Called for every request that is admitted.' },
  onExceeded: { kind: 'function', optional: true, about: 'Called for every request that is refused.' },
  onBanReach: { kind: 'function', optional: true, about: 'Called when `ban` is reached.' },
  continueExceeding: { kind: 'boolean', optional: true, about: 'Only `false`: nothing prolongs a refusal.' },
  exponentialBackoff: { kind: 'boolean', optional: true, about: 'Only `false`: nothing prolongs a refusal.' }
}

export const PLUGIN_SETTINGS: OptionTable<PluginSettings, PluginSettings> = {
  global: {
    kind: 'boolean',
    optional: true,
    defaultText: '`true`',
    about: 'Whether routes without `config.rateLimit` are limited.'
  },
  ...COMMON
}

const ROUTE_SETTINGS: OptionTable<RouteSettings, RouteSettings> = {
  ...COMMON,
  groupId: { kind: 'string', optional: true, about: 'Routes of one group share their budgets.' }
}

const ELSEWHERE = {
  redis: 'belongs into "store" beside it, for both limiters: store: { redis }',
  store: 'belongs beside it, for both limiters: store: { redis }',
  nameSpace: 'is "prefix" of "store" beside it',
  cache: 'is "maxKeys" beside it'
}

/** Refuses invalid settings that `@fastify/rate-limit` accepts: it uses its default for a limit that it cannot read. */
export function verifyPluginSettings (settings: FastifyRateLimitSettings): void {
  for (const [name, problem] of Object.entries(ELSEWHERE)) {
    if (Object.hasOwn(settings, name)) throw optionInvalid(`fastifyRateLimit.${name}`, problem)
  }
  checkOptions(PLUGIN_SETTINGS, settings, { ...SCOPE, at: 'fastifyRateLimit' })
}

/** Refuses invalid settings of one route. */
export function verifyRouteSettings (route: string, settings: object): void {
  checkOptions(ROUTE_SETTINGS, settings, { ...SCOPE, at: `${route}: config.rateLimit` })
}
