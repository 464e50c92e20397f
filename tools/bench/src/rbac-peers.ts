import { AbilityBuilder, createMongoAbility, type MongoAbility } from '@casl/ability'
import { AccessControl, type Query } from 'accesscontrol'
import { createRequire } from 'node:module'
import type { Enforcer, Model } from 'casbin'
import type { Question, RoleData } from './rbac-data.js'

// Casbin's CommonJS build decides twice as fast as its ESM build.
const { newEnforcer, newModelFromString } = createRequire(import.meta.url)('casbin') as typeof import('casbin')

/** Prepares an engine for these questions. */
export type Engine = (questions: readonly Question[]) => Asked

export interface Asked {
  /** Decides the question with this index. */
  ask (at: number): boolean
  /**
   * Decides this many questions in turn, and returns how many are allowed. Each engine has its own copy of the loop.
   * In a shared loop, V8 could not predict which engine is called, and such a call costs as much as a fast decision.
   */
  count (iterations: number): number
}

/** Throws when an engine gives a wrong answer: its speed would be meaningless. */
export function rightAnswers (name: string, questions: readonly Question[], ask: (at: number) => boolean): void {
  for (const [at, { roles, permission, allowed }] of questions.entries()) {
    if (ask(at) !== allowed) {
      throw new Error(`${name} gives a wrong answer: ${roles.join('+')} must ${allowed ? '' : 'not '}be allowed ${permission}`)
    }
  }
}

/**
 * Casbin, asked about one role. It holds only the rules of this environment, so rules name none. In the matcher, cheap
 * comparisons of strings come before the search of roles, and the one that excludes most rules comes first.
 */
const MODEL = `
[request_definition]
r = role, resource, action
[policy_definition]
p = role, resource, action, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.resource == p.resource && r.action == p.action && (r.role == p.role || p.eft == 'allow' && g(r.role, p.role))
`

export async function casbinPeer (roles: readonly RoleData[]): Promise<Engine> {
  const enforcer = await casbinEnforcer(roles)
  return questions => {
    const ask = (at: number): boolean =>
      enforcer.enforceSync(questions[at]!.roles[0], questions[at]!.resource, questions[at]!.action)
    const last = questions.length - 1
    return {
      ask,
      count (iterations) {
        let allowed = 0
        for (let i = 0; i < iterations; i++) if (ask(i & last)) allowed++
        return allowed
      }
    }
  }
}

/** Passes the rows as arrays, because parsing them as CSV takes Casbin longer than everything else. */
export async function casbinEnforcer (roles: readonly RoleData[]): Promise<Enforcer> {
  const adapter = {
    async loadPolicy (model: Model) {
      model.model.get('p')!.get('p')!.policy = roles.flatMap(({ name, allow, deny }) => [
        ...allow.map(({ resource, action }) => [name, resource, action, 'allow']),
        ...deny.map(({ resource, action }) => [name, resource, action, 'deny'])
      ])
      model.model.get('g')!.get('g')!.policy = roles.flatMap(({ name, inherits }) =>
        inherits === null ? [] : [[name, inherits]]
      )
    }
  }
  return await newEnforcer(newModelFromString(MODEL), adapter)
}

/** CASL, with a prepared ability for each role. Later rules take precedence, so denies come last. */
export function caslPeer (roles: readonly RoleData[]): Engine {
  const byName = new Map(roles.map(role => [role.name, role]))
  const abilities = new Map<string, MongoAbility>()
  for (const role of roles) {
    const { can, cannot, build } = new AbilityBuilder<MongoAbility>(createMongoAbility)
    for (let member: RoleData | undefined = role; member !== undefined; member = byName.get(member.inherits ?? '')) {
      for (const { resource, action } of member.allow) can(action, resource)
    }
    for (const { resource, action } of role.deny) cannot(action, resource)
    abilities.set(role.name, build())
  }
  return questions => {
    const held = questions.map(({ roles: [role] }) => abilities.get(role!)!)
    const actions = questions.map(({ action }) => action)
    const resources = questions.map(({ resource }) => resource)
    const last = questions.length - 1
    return {
      ask: at => held[at]!.can(actions[at]!, resources[at]!),
      count (iterations) {
        let allowed = 0
        for (let i = 0; i < iterations; i++) {
          const at = i & last
          if (held[at]!.can(actions[at]!, resources[at]!)) allowed++
        }
        return allowed
      }
    }
  }
}

/**
 * accesscontrol, with a prepared query for each role. Its denies are inherited, so a caller with a role gets an extra
 * role that holds the denies and from which no role inherits.
 */
export function accessControlPeer (roles: readonly RoleData[]): Engine {
  const engine = new AccessControl()
  for (const { name, inherits, allow } of roles) {
    const access = engine.grant(name)
    if (inherits !== null) access.extend(inherits)
    for (const { resource, action } of allow) access.action(action, resource)
  }
  for (const { name, deny } of roles) {
    engine.grant(`${name}-held`).extend(name)
    const access = engine.deny(`${name}-held`)
    for (const { resource, action } of deny) access.action(action, resource)
  }
  engine.lock()
  const queries = new Map<string, Query>(roles.map(({ name }) => [name, engine.can(`${name}-held`) as Query]))
  return questions => {
    const held = questions.map(({ roles: [role] }) => queries.get(role!)!)
    const last = questions.length - 1
    return {
      ask: at => held[at]!.action(questions[at]!.action, questions[at]!.resource).granted,
      count (iterations) {
        let allowed = 0
        for (let i = 0; i < iterations; i++) {
          const at = i & last
          if (held[at]!.action(questions[at]!.action, questions[at]!.resource).granted) allowed++
        }
        return allowed
      }
    }
  }
}
