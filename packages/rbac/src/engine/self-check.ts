import type { SourceProblem } from '@marty/config'
import { append } from '@marty/core'
import type { CasbinEngine, Conditions } from './casbin-engine.js'
import { FALSE, TRUE, UNKNOWN, type Attributes, type Question, type Truth } from '../conditions/evaluate.js'
import { subjectName, type PolicyDefinition } from '../model/definition.js'
import { formatPermission } from '../model/permission.js'
import type { Ids, PolicyIndex } from './policy-index.js'
import { roleClosure } from '../model/role-graph.js'
import type { RoleSets } from './role-sets.js'

/** Up to this many decisions and row visits, every decision is compared; it takes Casbin about 50 ms. */
const MAX_QUESTIONS = 5_000
const MAX_ROW_VISITS = 50_000
const SAMPLES = 1_000
/** The row visits after which a sample ends: a policy of nothing but wildcards would take Casbin minutes. */
const MAX_SAMPLED_ROW_VISITS = 2_500_000
const MAX_REPORTED = 10
const SEED = 0x6D617274

interface Caller {
  readonly roles: readonly string[]
  readonly attributes: Attributes
  readonly name: string
}

/** One decision to compare. */
interface Cell {
  readonly permission: string
  readonly environment: string
  readonly conditions: Conditions
  readonly caller: Caller
}

/**
 * Compares the decisions of the index with Casbin's: for callers with one role, with several, with none,
 * and for every pair of services; in every environment; and with every kind of result of the conditions.
 * If that is too much, it compares a sample of 1,000 with a fixed seed. Every other one of these is aimed
 * at a rule, because most combinations in a large policy are granted to no one and would prove little. Any
 * difference is a bug in the compiler, and the policy is refused.
 */
export function selfCheck (
  definition: PolicyDefinition,
  engine: CasbinEngine,
  index: PolicyIndex,
  sets: RoleSets,
  ids: Ids
): SourceProblem[] {
  const { permissions, environments, file } = definition
  const random = createRandom(SEED)
  const callers = callersOf(definition, random)
  const truths = truthsOf(definition.conditions.length, random)
  const visits =
    permissions.reduce((sum, permission) => sum + engine.candidates(permission), 0) *
    callers.length *
    environments.length *
    truths.length
  const cells = permissions.length * callers.length * environments.length * truths.length
  const questions =
    cells <= MAX_QUESTIONS && visits <= MAX_ROW_VISITS
      ? everyCell(permissions, environments, truths, callers)
      : sampledCells(definition, truths, callers, random)

  const permissionIds = new Map(ids.permissions.map((name, id) => [name, id]))
  const problems: SourceProblem[] = []
  let visited = 0
  for (const {
    permission, environment, conditions, caller: { roles, attributes, name }
  } of questions) {
    if (problems.length >= MAX_REPORTED || visited > MAX_SAMPLED_ROW_VISITS) break
    const question: Question = { roles, environment, attributes, clock: Date.now }
    const { rows } = sets.of(roles, attributes)
    const permissionId = permissionIds.get(permission)!
    const environmentId = ids.environments.indexOf(environment)
    const truth = index.decide(rows, permissionId, environmentId)
    const decided =
      truth === UNKNOWN
        ? index.decideConditions(rows, permissionId, environmentId, conditions, question)
        : truth === TRUE
    visited += engine.candidates(permission)
    if (decided === engine.decideAmongCandidates(permission, question, conditions)) continue
    problems.push({
      source: file,
      line: 0,
      column: 0,
      message: `the compiled policy and Casbin disagree on ${permission} for ${name} in ${environment}`
    })
  }
  return problems
}

function * everyCell (
  permissions: readonly string[],
  environments: readonly string[],
  truths: readonly Conditions[],
  callers: readonly Caller[]
): Generator<Cell> {
  for (const caller of callers) {
    for (const conditions of truths) {
      for (const environment of environments) {
        for (const permission of permissions) yield { permission, environment, conditions, caller }
      }
    }
  }
}

function * sampledCells (
  { permissions, environments, rules, roles }: PolicyDefinition,
  truths: readonly Conditions[],
  callers: readonly Caller[],
  random: () => number
): Generator<Cell> {
  const defined = new Set(permissions)
  const byName = new Map(callers.map(caller => [caller.name, caller]))
  const holders = new Map<string, string[]>()
  for (const role of roles.keys()) for (const member of roleClosure(role, roles)) append(holders, member, role)
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)]!
  for (let sample = 0; sample < SAMPLES; sample++) {
    const cell: Cell = {
      permission: pick(permissions),
      environment: pick(environments),
      conditions: pick(truths),
      caller: pick(callers)
    }
    if (sample % 2 === 0 || rules.length === 0) {
      yield cell
      continue
    }
    const rule = pick(rules)
    const named = formatPermission(rule)
    const holder = rule.subject.kind === 'role' ? byName.get(pick(holders.get(rule.subject.role)!)) : undefined
    yield {
      ...cell,
      permission: defined.has(named) ? named : cell.permission,
      environment: rule.environment === '*' ? cell.environment : rule.environment,
      caller: holder ?? cell.caller
    }
  }
}

/**
 * The callers to compare: each role, all roles, no role, random sets of roles, names that no caller can
 * hold, each service calling each other one, and users with the names of services.
 */
function callersOf ({ roles, rules }: PolicyDefinition, random: () => number): readonly Caller[] {
  const names = [...roles.keys()]
  const randomSets = Array.from({ length: 16 }, () => names.filter(() => random() < 2.5 / names.length))
  const services = new Map<string, Caller>()
  for (const { subject } of rules) {
    if (subject.kind !== 'service') continue
    const name = `${subject.caller} calling ${subject.callee}`
    for (const kind of ['service', 'user'] as const) {
      services.set(`${kind} ${name}`, {
        name: `the ${kind} ${name}`,
        roles: [],
        attributes: { principal: { kind, id: subject.caller }, service: subject.callee }
      })
    }
  }
  const people = [
    ...names.map(name => [name]),
    names,
    [],
    rules.map(({ subject }) => subjectName(subject)).filter(name => !roles.has(name)),
    ...randomSets
  ].map(held => ({ name: held.join('+') || 'a caller without roles', roles: Object.freeze(held), attributes: {} }))
  return [...people, ...services.values()]
}

/** Possible results of the conditions: all the same, then a random mixture. */
function truthsOf (count: number, random: () => number): readonly Conditions[] {
  if (count === 0) return [[]]
  const mixed = Array.from({ length: count }, (): Truth => [FALSE, UNKNOWN, TRUE][Math.floor(random() * 3)] as Truth)
  return [() => FALSE, () => UNKNOWN, () => TRUE, (number: number) => mixed[number]!]
    .map(truth => Array.from({ length: count }, (_, number) => ({ evaluate: () => truth(number) as Truth })))
}

/** A random number generator over [0, 1) with a seed (32-bit xorshift). */
function createRandom (seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}
