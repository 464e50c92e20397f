import { setImmediate } from 'node:timers/promises'
import { deserialize, serialize } from 'node:v8'
import { createCasbinEngine } from '../engine/casbin-engine.js'
import { compileCondition } from '../conditions/evaluate.js'
import type { Expression } from '../conditions/syntax.js'
import type { PolicyDefinition, PolicyOutline, ResourceDefinition, RoleDefinition } from '../model/definition.js'
import { createPolicy, partsOf, type PolicyComponents, type Policy } from '../engine/policy.js'
import { restoreIndex, type Conditional, type Ids, type Tables } from '../engine/policy-index.js'
import { textOf } from './origin.js'
import { readPolicy } from '../parse/policy.js'
import { createRoleSets } from '../engine/role-sets.js'

/**
 * A compiled policy in the form in which the worker thread sends it. Tables are transferred without a
 * copy. Lists may be long, so they are sent as bytes that are decoded in pieces. Rules are left out: the
 * text is parsed again when an explanation is needed.
 */
export interface PackedPolicy extends Pick<
  PolicyOutline,
  'separations' | 'requirements' | 'services' | 'environments'
> {
  readonly sha256: string
  readonly rules: number
  /** Names of environments, indexed by id. */
  readonly environmentIds: readonly string[]
  /** Ids of the permissions, in the order of the file. */
  readonly live: Uint32Array
  readonly tables: Omit<Tables, 'lists'>
  readonly lists: Readonly<Record<keyof Lists, readonly Uint8Array[]>>
}

interface Lists {
  /** Names that got a new id. */
  readonly permissions: readonly string[]
  readonly resources: ReadonlyArray<readonly [string, ResourceDefinition]>
  readonly roles: ReadonlyArray<readonly [string, RoleDefinition]>
  readonly aliases: ReadonlyArray<readonly [string, string]>
  readonly conditions: ReadonlyArray<{ readonly text: string, readonly expression: Expression }>
  readonly conditionals: ReadonlyArray<readonly Conditional[]>
  /** Subjects of the index that are not roles; the roles come first. */
  readonly subjects: readonly string[]
}

const PIECE = 1_000

/** Packs a policy. `known` holds the ids of the previous generation, which are not sent again. */
export function packPolicy (
  policy: Policy,
  known: Ids
): { readonly packed: PackedPolicy, readonly transfer: ArrayBuffer[] } {
  const { definition, index, ids } = partsOf(policy)
  const { separations, requirements, services, environments } = definition
  const { lists: conditionals, ...tables } = index.tables
  const lists = Object.fromEntries(
    Object.entries({
      permissions: ids.permissions.slice(known.permissions.length),
      resources: [...definition.resources],
      roles: [...definition.roles],
      aliases: [...definition.aliases],
      conditions: definition.conditions.map(({ text, expression }) => ({ text, expression })),
      conditionals,
      subjects: [...index.subjects.keys()].slice(definition.roles.size)
    } satisfies Lists).map(([name, list]) => [name, cut(list)])
  ) as unknown as PackedPolicy['lists']
  const live = Uint32Array.from(definition.permissions, name => policy.permissionId(name)!)
  return {
    packed: {
      separations,
      requirements,
      services,
      environments,
      sha256: policy.sha256,
      rules: definition.rules.length,
      environmentIds: ids.environments,
      live,
      tables,
      lists
    },
    transfer: [live, ...Object.values(tables), ...Object.values(lists).flat()].map(
      ({ buffer }) => buffer as ArrayBuffer
    )
  }
}

function cut (list: readonly unknown[]): Uint8Array[] {
  return Array.from({ length: Math.ceil(list.length / PIECE) }, (_, piece) =>
    serialize(list.slice(piece * PIECE, (piece + 1) * PIECE))
  )
}

export interface UnpackOptions {
  readonly bytes: Uint8Array
  readonly file: string
  readonly previous: Policy
  readonly clock: () => number
}

/** Unpacks a policy, a few milliseconds at a time. */
export async function unpackPolicy (
  packed: PackedPolicy,
  { bytes, file, previous, clock }: UnpackOptions
): Promise<Policy> {
  const pause = createPauses()
  const join = async <Name extends keyof Lists>(name: Name): Promise<Array<Lists[Name][number]>> => {
    const all: Array<Lists[Name][number]> = []
    for (const piece of packed.lists[name]) {
      for (const item of deserialize(piece) as Lists[Name]) all.push(item)
      await pause()
    }
    return all
  }
  const { separations, requirements, services, environments, sha256, rules, environmentIds, live, tables } = packed
  const known = partsOf(previous).ids.permissions
  const added = await join('permissions')
  const ids: Ids = {
    permissions: added.length === 0 ? known : Object.freeze([...known, ...added]),
    environments: Object.freeze(environmentIds)
  }
  const aliases = new Map(await join('aliases'))
  const conditions = []
  for (const { text, expression } of await join('conditions')) {
    conditions.push(compileCondition(text, expression, aliases))
    await pause()
  }
  const roles = new Map(await join('roles'))
  await pause()
  const subjects = new Map([...roles.keys(), ...(await join('subjects'))].map((name, id) => [name, id]))
  await pause()
  const index = restoreIndex(subjects, ids, { ...tables, lists: await join('conditionals') })
  const outline: PolicyOutline = {
    file,
    resources: new Map(await join('resources')),
    roles,
    environments: Object.freeze(environments),
    aliases,
    services: Object.freeze(services),
    separations,
    requirements,
    conditions: Object.freeze(conditions),
    permissions: Object.freeze(Array.from(live, id => ids.permissions[id]!))
  }
  await pause()
  return createPolicy({
    outline,
    rules,
    ...fromText(bytes, file),
    index,
    sets: createRoleSets(outline, index),
    ids,
    clock,
    sha256,
    generation: previous.generation + 1
  })
}

/**
 * Creates the remaining parts from the same text on demand. A separate function, so that its closure keeps
 * nothing else in memory.
 */
function fromText (bytes: Uint8Array, file: string): Pick<PolicyComponents, 'definition' | 'engine'> {
  const definition = lazy((): PolicyDefinition => readPolicy(textOf(bytes, file), file).definition!)
  return { definition, engine: lazy(() => createCasbinEngine(definition())) }
}

/** The maximum work between two turns of the event loop, in milliseconds. */
const MAX_WORK_MS = 3

function createPauses (): () => Promise<void> {
  let began = performance.now()
  return async () => {
    if (performance.now() - began < MAX_WORK_MS) return
    await setImmediate()
    began = performance.now()
  }
}

function lazy<Value> (make: () => Value): () => Value {
  let made: { readonly value: Value } | undefined
  return () => (made ??= { value: make() }).value
}
