import type { FastifyRequest } from 'fastify'
import { invalid, knownKeys, MAX_LIMIT, MAX_WINDOW_MS, object, oneOf, positive } from '../options.js'

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

const FUNCTIONS = ['keyGenerator', 'onBanReach', 'onExceeding', 'onExceeded', 'errorResponseBuilder'] as const
const SWITCHES = ['global', 'skipOnError', 'enableDraftSpec', 'continueExceeding', 'exponentialBackoff'] as const
const HOOKS: readonly Hook[] = ['onRequest', 'preParsing', 'preValidation', 'preHandler']
/** Settings of both a route and the plugin. */
const COMMON = [
  'max', 'timeWindow', 'ban', 'hook', 'allowList', 'ipv6Subnet', 'skipOnError', 'continueExceeding',
  'exponentialBackoff', 'cache', ...FUNCTIONS
]
const ROUTE = [...COMMON, 'groupId', 'enableDraftSpec', 'addHeaders', 'addHeadersOnExceeding']
const PLUGIN = [...COMMON, 'global', 'enableDraftSpec', 'addHeaders', 'addHeadersOnExceeding']

const ELSEWHERE: Readonly<Record<string, string>> = {
  redis: 'belongs into "store" beside it, for both limiters: store: { redis }',
  store: 'belongs beside it, for both limiters: store: { redis }',
  nameSpace: 'is "prefix" of "store" beside it',
  cache: 'is "maxKeys" beside it'
}

/** Refuses invalid settings that `@fastify/rate-limit` accepts: it uses its default for a limit that it cannot read. */
export function verifyPluginSettings (settings: FastifyRateLimitSettings): void {
  for (const key of Object.keys(object('fastifyRateLimit', settings))) {
    if (ELSEWHERE[key] !== undefined) throw invalid(`fastifyRateLimit.${key}`, ELSEWHERE[key])
  }
  verifySettings('fastifyRateLimit', settings, PLUGIN)
}

/** Refuses invalid settings of one route. */
export function verifyRouteSettings (route: string, settings: object): void {
  verifySettings(`${route}: config.rateLimit`, settings, ROUTE)
}

function verifySettings (at: string, settings: object, known: readonly string[]): void {
  knownKeys(at, settings, known)
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined))
  const { max, timeWindow, ban, hook, allowList, ipv6Subnet } = given
  for (const name of FUNCTIONS) {
    if (name in given && typeof given[name] !== 'function') throw invalid(`${at}.${name}`, 'must be a function')
  }
  for (const name of SWITCHES) {
    if (name in given && typeof given[name] !== 'boolean') throw invalid(`${at}.${name}`, 'must be true or false')
  }
  if ('max' in given && typeof max !== 'function' && max !== 0) positive(`${at}.max`, max, MAX_LIMIT)
  if (typeof timeWindow === 'number') positive(`${at}.timeWindow`, timeWindow, MAX_WINDOW_MS)
  else if ('timeWindow' in given && typeof timeWindow !== 'string' && typeof timeWindow !== 'function') {
    throw invalid(`${at}.timeWindow`, 'must be milliseconds, text such as "1 minute", or a function')
  }
  if ('ban' in given && ban !== 0 && ban !== -1) positive(`${at}.ban`, ban, MAX_LIMIT)
  if ('hook' in given) oneOf(`${at}.hook`, hook, HOOKS)
  // A string has an `indexOf` too, so it would exempt every client whose key is a part of it.
  if ('allowList' in given && typeof allowList !== 'function' && !Array.isArray(allowList)) {
    throw invalid(`${at}.allowList`, 'must be a list or a function')
  }
  if ('ipv6Subnet' in given && ipv6Subnet !== 0) positive(`${at}.ipv6Subnet`, ipv6Subnet, 128)
}
