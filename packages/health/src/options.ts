import { closest, type SecurityRule } from '@marty/core'
import type { Probe } from './component.js'
import { OptionInvalid } from './errors.js'

export interface HealthOptions {
  /** The components that the service depends on: a probe for each name. */
  readonly components: Readonly<Record<string, Probe>>
  /** Time limit of one probe, in milliseconds; after that, the component is unhealthy. @default 2000 */
  readonly timeoutMs?: number
  /** How long a result is cached, in milliseconds; 0 disables the cache. @default 500 */
  readonly cacheMs?: number
  /** Components that must not be unhealthy for the service to accept requests. @default every component */
  readonly ready?: readonly string[]
  /** Additional routes: `PREFIX/NAME` reports these components. @default none */
  readonly groups?: Readonly<Record<string, readonly string[]>>
  /** URL prefix of the routes. @default '/health' */
  readonly prefix?: string
  /** Who may call the routes. @default { public: true } */
  readonly security?: SecurityRule
}

const KEYS = ['components', 'timeoutMs', 'cacheMs', 'ready', 'groups', 'prefix', 'security']
const NAME = /^[A-Za-z][\w-]*$/

export function resolveOptions (options: HealthOptions): Readonly<Required<HealthOptions>> {
  for (const key of Object.keys(options)) {
    if (!KEYS.includes(key)) throw invalid(key, `is not an option${didYouMean(key, KEYS)}`)
  }
  const {
    components,
    timeoutMs = 2000,
    cacheMs = 500,
    groups = {},
    prefix = '/health',
    security = { public: true }
  } = options
  if (typeof components !== 'object' || components === null) throw invalid('components', 'must be an object of probes')
  const names = Object.keys(components)
  for (const name of names) {
    if (!NAME.test(name) || name === 'service') {
      throw invalid(
        `components.${name}`,
        'has an unusable name; letters, digits, "_" and "-", and "service" stands for this process'
      )
    }
    if (typeof components[name] !== 'function') {
      throw invalid(`components.${name}`, 'must be a function (signal) => Promise<{ status, details }>')
    }
  }
  const { ready = names } = options
  verifyNames('ready', ready, names)
  if (typeof groups !== 'object' || groups === null) throw invalid('groups', 'must be an object of component lists')
  for (const [group, members] of Object.entries(groups)) {
    if (!NAME.test(group) || group === 'live' || group === 'ready') {
      throw invalid(`groups.${group}`, 'has an unusable name; letters, digits, "_" and "-", and not "live" or "ready"')
    }
    verifyNames(`groups.${group}`, members, names)
  }
  if (!Number.isSafeInteger(timeoutMs) || timeoutMs < 1) {
    throw invalid('timeoutMs', `must be a positive integer, not ${String(timeoutMs)}`)
  }
  if (!Number.isSafeInteger(cacheMs) || cacheMs < 0) {
    throw invalid('cacheMs', `must be 0 or a positive integer, not ${String(cacheMs)}`)
  }
  if (typeof prefix !== 'string' || !/^(\/[\w.-]+)+$/.test(prefix)) {
    throw invalid('prefix', 'must be a path such as "/health", without a slash at its end')
  }
  return Object.freeze({ components, timeoutMs, cacheMs, ready, groups, prefix, security })
}

function verifyNames (field: string, list: unknown, names: readonly string[]): void {
  if (!Array.isArray(list)) throw invalid(field, 'must be a list of component names')
  for (const name of list as unknown[]) {
    if (!names.includes(name as string)) {
      throw invalid(field, `names "${String(name)}", which is not a component${didYouMean(String(name), names)}`)
    }
  }
}

export function didYouMean (word: string, candidates: readonly string[]): string {
  const near = closest(word, candidates)
  return near === null ? '' : `; did you mean "${near}"?`
}

function invalid (field: string, message: string): Error {
  return new OptionInvalid(`health: ${field} ${message}`)
}
