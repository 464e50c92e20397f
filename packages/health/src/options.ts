import {
  checkOptions, didYouMeanOrKnown, optionsInvalid, type OptionProblem, type OptionScope, type OptionTable,
  type SecurityRule
} from '@marty/core'
import type { Probe } from './component.js'
import { HealthOptionInvalid } from './errors.js'

export interface HealthOptions {
  /** The components that the service depends on: a probe for each name. */
  readonly components: Readonly<Record<string, Probe>>
  /** Time limit of one probe, in milliseconds; after that, the component is unhealthy. @default 2000 */
  readonly timeoutMs?: number
  /** How long a result is cached, in milliseconds; 0 disables the cache. @default 500 */
  readonly cacheMs?: number
  /** Components that must not be unhealthy for the service to accept requests. @default every component */
  readonly ready?: readonly string[]
  /** Additional routes: `PATH/NAME` reports these components. @default none */
  readonly groups?: Readonly<Record<string, readonly string[]>>
  /** URL path under which the routes are registered. @default '/health' */
  readonly path?: string
  /** Who may call the routes. @default { public: true } */
  readonly security?: SecurityRule
}

export type ResolvedOptions = Required<HealthOptions>
type CheckedOptions = Required<Omit<HealthOptions, 'ready'>> & Pick<HealthOptions, 'ready'>

const NAME = /^[A-Za-z][\w-]*$/

export const OPTIONS: OptionTable<HealthOptions, CheckedOptions> = {
  components: {
    kind: 'record',
    names: namesExcept('service'),
    values: { kind: 'function', expected: 'a function (signal) => Promise<{ status, details }>' },
    about: 'The components that the service depends on: a probe for each name.'
  },
  timeoutMs: {
    kind: 'integer',
    min: 1,
    default: 2000,
    about: 'Time limit of one probe; after that, the component is unhealthy and the signal aborts.'
  },
  cacheMs: {
    kind: 'integer',
    min: 0,
    default: 500,
    about: 'How long a result is cached; 0 disables the cache. Concurrent requests share one measurement.'
  },
  ready: {
    kind: 'list',
    items: { kind: 'string', expected: 'the name of a component' },
    optional: true,
    defaultText: 'every component',
    about: 'Components that must not be unhealthy for the service to accept requests.'
  },
  groups: {
    kind: 'record',
    names: namesExcept('live', 'ready'),
    values: { kind: 'list', items: { kind: 'string', expected: 'the name of a component' } },
    default: {},
    defaultText: 'none',
    about: 'Additional routes: `PATH/NAME` reports these components.'
  },
  path: {
    kind: 'string',
    pattern: /^(\/[\w.-]+)+$/,
    expected: 'a path such as "/health", without a slash at its end',
    default: '/health',
    about: 'URL path under which the routes are registered.'
  },
  security: {
    kind: 'custom',
    expected: 'a security rule',
    accepts: value => typeof value === 'object' && value !== null,
    default: { public: true },
    about: 'Who may call the routes.'
  }
}

const SCOPE: OptionScope = { subject: 'health', refuse: message => new HealthOptionInvalid(message), isPlugin: true }

/** Checks the options and fills in the defaults. Throws `MARTY_HEALTH_OPT_INVALID`. */
export function resolveOptions (options: HealthOptions): ResolvedOptions {
  const checked = checkOptions(OPTIONS, options, SCOPE)
  const { components, groups, ready = Object.keys(components) } = checked
  const known = Object.keys(components)
  const problems = [
    ...unknownComponents('ready', ready, known),
    ...Object.entries(groups).flatMap(([name, members]) => unknownComponents(`groups.${name}`, members, known))
  ]
  if (problems.length > 0) throw optionsInvalid(SCOPE, problems)
  return Object.freeze({ ...checked, ready })
}

function unknownComponents (field: string, list: readonly string[], known: readonly string[]): OptionProblem[] {
  const unknown = list.filter(name => !known.includes(name))
  return unknown.map(name => {
    return { field, problem: `names "${name}", which is not a component${didYouMeanOrKnown(name, known)}` }
  })
}

interface Names {
  readonly pattern: { test (name: string): boolean }
  readonly expected: string
}

/** Names are part of URLs and of the report. */
function namesExcept (...reserved: readonly string[]): Names {
  return {
    pattern: { test: name => NAME.test(name) && !reserved.includes(name) },
    expected: `letters, digits, "_" and "-", a letter first, and not ${reserved.map(name => `"${name}"`).join(' or ')}`
  }
}
