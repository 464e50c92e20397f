import { ANONYMOUS, useGuard, type Authenticator } from '@marty/core'
import { loadPolicy, rbac, type Policy, type RoleSet } from '@marty/rbac'
import Fastify, { type FastifyInstance } from 'fastify'
import { http } from './guard.bench.js'
import { measure, ratio, type Case, type Measured, type Plan } from './harness.js'
import { ENVIRONMENT, OWNER, policyData, type PolicyData, type Question } from './rbac-data.js'
import { accessControlPeer, casbinPeer, caslPeer, rightAnswers, type Engine } from './rbac-peers.js'
import { memory, reloads } from './rbac-reload.js'
import { lowestMedian, median } from './statistics.js'

/** The targets of some metrics, printed beside them. */
const GOALS: Readonly<Record<string, string>> = {
  id_1role_ns: '<= 10',
  id_3roles_ns: '<= 20',
  id_8roles_ns: '<= 40',
  strings_10k_ns: '<= 60',
  x_enforcesync_1k: '>= 5000',
  x_enforcesync_10k: '>= 40000',
  growth_10_to_10k: '<= 2',
  x_casl: '>= 2',
  x_accesscontrol: '>= 40',
  conditioned_ns: '<= 100',
  hook_added_us: '<= 3',
  reload_10k_ms: '<= 150',
  reload_10k_pause_ms: '<= 15',
  reload_100k_ms: '<= 1500',
  memory_vs_casbin: '<= 1'
}
/** A power of two. With more questions, reading them from memory would take longer than deciding them. */
const QUESTIONS = 1_024
/** A power of two. Fewer, because Casbin takes milliseconds for each question, and equally long for all of them. */
const QUESTIONS_TO_CASBIN = 256
const WARM_UP_REQUESTS = 2_000

interface Loaded {
  readonly data: PolicyData
  readonly policy: Policy
  /** Questions about callers with one role. */
  readonly questions: readonly Question[]
}

/** Measures a decision, compared with Casbin, CASL and accesscontrol; its share of a request; and a reload. */
export async function rbacBench (plan: Plan, progress: (done: number, of: number) => void): Promise<Measured> {
  const [few, some, many] = [await load(10), await load(1_000), await load(10_000)]
  const app = await application(many)
  const routes = [http('authenticated', app, '/authenticated'), http('permitted', app, '/permitted')]
  // Warm up first: the number of iterations would otherwise be chosen while the first route's code is still slow.
  for (const route of [...routes, ...routes]) await route.run(WARM_UP_REQUESTS)
  const samples = await measure([
    loop(many),
    byId('id_1role', many.policy, many.questions),
    byId('id_3roles', many.policy, many.data.questions(QUESTIONS, 3)),
    byId('id_8roles', many.policy, many.data.questions(QUESTIONS, 8)),
    byNames('strings_10', few.questions, policyEngine(few.policy)),
    byNames('strings_1k', some.questions, policyEngine(some.policy)),
    byNames('strings_10k', many.questions, policyEngine(many.policy)),
    conditioned(many),
    byNames('casbin_1k', some.questions.slice(0, QUESTIONS_TO_CASBIN), await casbinPeer(some.data.roles)),
    byNames('casbin_10k', many.questions.slice(0, QUESTIONS_TO_CASBIN), await casbinPeer(many.data.roles)),
    byNames('casl_1k', some.questions, caslPeer(some.data.roles)),
    byNames('accesscontrol_1k', some.questions, accessControlPeer(some.data.roles)),
    ...routes
  ], { ...plan, sliceMs: plan.sliceMs / 2 }, progress)
  await app.close()
  const reload10k = await reloads(10_000, plan.rounds / 2)
  const reload100k = await reloads(100_000, plan.rounds / 4)
  const bytes = await memory(10_000)

  const lowest = (name: string): number => lowestMedian(samples[name]!)
  return {
    metrics: {
      id_1role_ns: lowest('id_1role'),
      id_3roles_ns: lowest('id_3roles'),
      id_8roles_ns: lowest('id_8roles'),
      strings_10k_ns: lowest('strings_10k'),
      x_enforcesync_1k: ratio(samples, 'casbin_1k', 'strings_1k'),
      x_enforcesync_10k: ratio(samples, 'casbin_10k', 'strings_10k'),
      growth_10_to_10k: ratio(samples, 'strings_10k', 'strings_10'),
      x_casl: ratio(samples, 'casl_1k', 'strings_1k'),
      x_accesscontrol: ratio(samples, 'accesscontrol_1k', 'strings_1k'),
      conditioned_ns: lowest('conditioned'),
      hook_added_us: median(differences(samples['permitted']!, samples['authenticated']!)) / 1000,
      reload_10k_ms: median(reload10k['ms']!),
      reload_10k_pause_ms: median(differences(reload10k['pauseMs']!, reload10k['idleMs']!)),
      reload_100k_ms: median(reload100k['ms']!),
      memory_vs_casbin: bytes.index / bytes.casbin
    },
    goals: GOALS,
    notes: [
      'every engine gave the right answer to every question before it was timed; half of the answers are allow',
      'decisions read the bit sets of denies and conditions: 1 in 4 rules is a deny, 1 in 8 has a condition; other ' +
        'engines got only the rules on which these questions depend',
      `every figure in ns includes ${lowest('loop').toPrecision(2)} ns for the loop itself`,
      `ns: lowest of five medians; by names ${lowest('strings_10').toPrecision(3)} ns at 10 rules, ` +
        `${lowest('strings_1k').toPrecision(3)} at 1,000`,
      `casbin enforceSync ${us(lowest('casbin_1k'))} at 1,000 rules, ${us(lowest('casbin_10k'))} at 10,000; at ` +
        `1,000 casl ${lowest('casl_1k').toPrecision(3)} ns, accesscontrol ` +
        `${lowest('accesscontrol_1k').toPrecision(3)} ns`,
      `a request takes ${us(lowest('authenticated'))} authenticated, ${us(lowest('permitted'))} with a permission`,
      `reload of 10,000 rules: the event loop is blocked for ${median(reload10k['pauseMs']!).toPrecision(3)} ms, ` +
        `without a reload for ${median(reload10k['idleMs']!).toPrecision(3)} ms; while the event loop runs permanently, ` +
        `the reload takes ${median(reload10k['turningMs']!).toPrecision(3)} ms`,
      `tables of 10,000 rules: ${kib(bytes.index)}; Casbin ${kib(bytes.casbin)}`
    ],
    samples: { ...samples, ...named('reload_10k_', reload10k), ...named('reload_100k_', reload100k) }
  }
}

async function load (rules: number): Promise<Loaded> {
  const data = policyData(rules)
  const policy = await loadPolicy(data.text, 'policy.yaml')
  if (policy.rules !== rules) throw new Error(`the policy of ${rules} rules has ${policy.rules}`)
  return { data, policy, questions: data.questions(QUESTIONS, 1) }
}

/** The cost of the loop itself, without a decision. */
function loop ({ policy, questions }: Loaded): Case {
  const { sets, ids } = lookedUp(policy, questions)
  return {
    name: 'loop',
    run (iterations) {
      let allowed = 0
      for (let i = 0; i < iterations; i++) {
        const at = i & (QUESTIONS - 1)
        if (sets[at]!.separated || (ids[at]! & 1) === 0) allowed++
      }
      told(allowed)
    }
  }
}

function byId (name: string, policy: Policy, questions: readonly Question[]): Case {
  const { sets, ids, environment } = lookedUp(policy, questions)
  rightAnswers(name, questions, at => policy.decideId(sets[at]!, ids[at]!, environment))
  return {
    name,
    run (iterations) {
      let allowed = 0
      for (let i = 0; i < iterations; i++) {
        const at = i & (QUESTIONS - 1)
        if (policy.decideId(sets[at]!, ids[at]!, environment)) allowed++
      }
      told(allowed)
    }
  }
}

/** Half of the callers own the resource of their question. */
function conditioned ({ data, policy }: Loaded): Case {
  const questions = data.conditioned(QUESTIONS)
  const { sets, ids, environment } = lookedUp(policy, questions)
  const attributes = questions.map(({ allowed }) => ({
    principal: { id: OWNER },
    resource: { owner: allowed ? OWNER : 'somebody else' }
  }))
  rightAnswers('conditioned', questions, at => policy.decideId(sets[at]!, ids[at]!, environment, attributes[at]))
  return {
    name: 'conditioned',
    run (iterations) {
      let allowed = 0
      for (let i = 0; i < iterations; i++) {
        const at = i & (QUESTIONS - 1)
        if (policy.decideId(sets[at]!, ids[at]!, environment, attributes[at])) allowed++
      }
      told(allowed)
    }
  }
}

function lookedUp (
  policy: Policy,
  questions: readonly Question[]
): { readonly sets: readonly RoleSet[], readonly ids: readonly number[], readonly environment: number } {
  return {
    sets: questions.map(({ roles }) => policy.roleSet(roles)),
    ids: questions.map(({ permission }) => policy.permissionId(permission)!),
    environment: policy.environmentId(ENVIRONMENT)!
  }
}

function byNames (name: string, questions: readonly Question[], engine: Engine): Case {
  const { ask, count } = engine(questions)
  rightAnswers(name, questions, ask)
  return { name, run (iterations) { told(count(iterations)) } }
}

function policyEngine (policy: Policy): Engine {
  return questions => {
    const callers = questions.map(({ roles }) => roles)
    const permissions = questions.map(({ permission }) => permission)
    const last = questions.length - 1
    return {
      ask: at => policy.decide(callers[at]!, permissions[at]!, ENVIRONMENT),
      count (iterations) {
        let allowed = 0
        for (let i = 0; i < iterations; i++) {
          const at = i & last
          if (policy.decide(callers[at]!, permissions[at]!, ENVIRONMENT)) allowed++
        }
        return allowed
      }
    }
  }
}

/** Uses the result, so that no compiler removes the work. */
function told (allowed: number): void {
  if (allowed < 0) throw new Error('impossible')
}

/** Two routes that differ only in their rule. Both authenticate the caller in the same way, at no cost. */
async function application ({ data, questions: [question] }: Loaded): Promise<FastifyInstance> {
  const { roles, permission } = question!
  const principal = { ...ANONYMOUS, id: OWNER, kind: 'user', roles, authenticatedBy: 'jwt' } as const
  const authenticator: Authenticator = {
    method: 'jwt',
    find: ({ headers }) => headers.authorization?.slice(7) ?? null,
    accepts: () => true,
    authenticate: () => principal
  }
  const app = Fastify()
  useGuard(app, { strict: true }).addAuthenticator(authenticator)
  await app.register(rbac, { policy: data.text, environment: ENVIRONMENT })
  app.get('/authenticated', { config: { security: { authenticate: true } } }, async () => 'ok')
  app.get('/permitted', { config: { security: { permission } } }, async () => 'ok')
  await app.ready()
  return app
}

function differences (values: readonly number[], from: readonly number[]): number[] {
  return values.map((value, round) => value - from[round]!)
}

function named (
  prefix: string,
  samples: Readonly<Record<string, readonly number[]>>
): Record<string, readonly number[]> {
  return Object.fromEntries(Object.entries(samples).map(([name, values]) => [prefix + name, values]))
}

function us (ns: number): string {
  return `${(ns / 1000).toPrecision(3)} us`
}

function kib (bytes: number): string {
  return `${Math.round(bytes / 1024)} KiB`
}
