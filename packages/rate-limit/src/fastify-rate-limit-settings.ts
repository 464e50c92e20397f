import type { RateLimitHook, RateLimitPluginOptions } from '@fastify/rate-limit'
import { invalid, knownKeys, MAX_LIMIT, MAX_WINDOW_MS, object, oneOf, positive } from './options.js'

/** The options of `@fastify/rate-limit`, without those that its store decides on: see `store` and `maxKeys` beside them. */
export type FastifyRateLimitSettings = Omit<RateLimitPluginOptions, 'redis' | 'store' | 'nameSpace' | 'cache' | 'continueExceeding' | 'exponentialBackoff' | 'groupId'>

const FUNCTIONS = ['keyGenerator', 'onBanReach', 'onExceeding', 'onExceeded', 'errorResponseBuilder'] as const
const SWITCHES = ['global', 'skipOnError', 'enableDraftSpec', 'continueExceeding', 'exponentialBackoff'] as const
const HOOKS: readonly RateLimitHook[] = ['onRequest', 'preParsing', 'preValidation', 'preHandler']
/** Of a route and of the plugin. */
const COMMON = ['max', 'timeWindow', 'ban', 'hook', 'allowList', 'ipv6Subnet', 'skipOnError', 'continueExceeding', 'exponentialBackoff', 'cache', ...FUNCTIONS]
const ROUTE = [...COMMON, 'groupId', 'enableDraftSpec', 'addHeaders', 'addHeadersOnExceeding']
const PLUGIN = [...COMMON, 'global', 'enableDraftSpec', 'addHeaders', 'addHeadersOnExceeding']

const ELSEWHERE: Readonly<Record<string, string>> = {
  redis: 'belongs into "store" beside it, for both limiters: store: { redis }',
  store: 'belongs beside it, for both limiters: store: { redis }',
  nameSpace: 'is "prefix" of "store" beside it',
  cache: 'is "maxKeys" beside it'
}

/** Refuses what `@fastify/rate-limit` would overlook: it takes its default for a limit it cannot read. */
export function verifyPluginSettings (settings: FastifyRateLimitSettings): void {
  for (const key of Object.keys(object('fastifyRateLimit', settings))) {
    if (ELSEWHERE[key] !== undefined) throw invalid(`fastifyRateLimit.${key}`, ELSEWHERE[key])
  }
  verifySettings('fastifyRateLimit', settings, PLUGIN)
}

/** The same of one route. */
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
  else if ('timeWindow' in given && typeof timeWindow !== 'string' && typeof timeWindow !== 'function') throw invalid(`${at}.timeWindow`, 'must be milliseconds, text such as "1 minute", or a function')
  if ('ban' in given && ban !== 0 && ban !== -1) positive(`${at}.ban`, ban, MAX_LIMIT)
  if ('hook' in given) oneOf(`${at}.hook`, hook, HOOKS)
  // Text has an indexOf as well: it would let through every client whose key is a part of it.
  if ('allowList' in given && typeof allowList !== 'function' && !Array.isArray(allowList)) throw invalid(`${at}.allowList`, 'must be a list or a function')
  if ('ipv6Subnet' in given && ipv6Subnet !== 0) positive(`${at}.ipv6Subnet`, ipv6Subnet, 128)
}
