import { GuardScope, RouteUnguarded, RuleInvalid, RuleMissing } from '../errors.js'

type Kind = 'scope' | 'outside' | 'absent' | 'early' | 'changed' | 'missing' | 'invalid'

/** One reason why an application must not start. */
export interface StartProblem {
  readonly kind: Kind
  /** One line: the place, and for an invalid rule also what is wrong. */
  readonly text: string
}

interface Section {
  readonly refusal: (message: string) => Error
  readonly title: string
  readonly advice: string | null
}

/** In the order in which the message lists them. The first kind present decides the error code. */
const KINDS: Readonly<Record<Kind, Section>> = {
  scope: {
    refusal: message => new GuardScope(message),
    title: 'The guard was registered inside a scope of its own, so routes outside it would be open to everyone:',
    advice:
      'Register the plugin on the root instance. A function or an autoloaded file that registers it must be wrapped ' +
        'in fastify-plugin: ' +
      'export default fp(async fastify => { await fastify.register(security, options) }). ' +
      'Routes that stay open say so: config: { security: { public: true } }.'
  },
  outside: {
    refusal: message => new RouteUnguarded(message),
    title: 'Routes outside the scope of the guard, where no check would run:',
    advice: 'Register the plugin on the root instance, or the routes inside its scope.'
  },
  absent: {
    refusal: message => new RouteUnguarded(message),
    title: 'Routes with a security rule in an application without a guard, where no check would run:',
    advice: 'Register the plugin that enforces the rule, such as @marty/security, before the routes.'
  },
  early: {
    refusal: message => new RouteUnguarded(message),
    title: 'Routes registered before the guard, or in a scope made before it, so its checks would not run:',
    advice:
      'Register the plugin first and wait for it: await app.register(security, options). ' +
      'Or register the routes in a plugin after it: app.register(routes).'
  },
  changed: {
    refusal: message => new RouteUnguarded(message),
    title: 'Routes whose config an onRoute hook changed after the guard had read the rule:',
    advice:
      'Keep what is there: route.config = { ...route.config, more }. A hook that adds or changes rules must be ' +
        'added before the plugin.'
  },
  missing: {
    refusal: message => new RuleMissing(message),
    title: 'Operations that do not say who may call them:',
    advice: "Add config: { security: { permission: 'resource:action' } } to each, or { public: true } if anybody may."
  },
  invalid: {
    refusal: message => new RuleInvalid(message),
    title: 'Rules that cannot be enforced as written:',
    advice: null
  }
}

/** Throws one error that names every problem; returns when there is none. */
export function refuseStart (problems: readonly StartProblem[]): void {
  if (problems.length === 0) return
  const present = Object.entries(KINDS).filter(([kind]) => problems.some(problem => problem.kind === kind))
  const sections = present.map(([kind, { title, advice }]) => {
    const lines = problems.filter(problem => problem.kind === kind).map(({ text }) => `  ${text}`)
    return [title, ...lines, ...advice === null ? [] : [advice]].join('\n')
  })
  throw present[0]![1].refusal(sections.join('\n'))
}
