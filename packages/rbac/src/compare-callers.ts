import type { Attributes } from './condition.js'
import { textOf, type Voice, type Weigher } from './decision-state.js'
import { implies, type Formula } from './formula.js'
import { append } from './role-graph.js'

/** So many sets are looked at for one permission in one environment. Roles of which the policies say the same count once. */
const MAX_SETS = 5000
/** So many sets of several are named for one change. */
const MAX_NAMED = 100

/** A role, or a service's calls of another: what a caller can be several of. */
export interface Holder {
  readonly name: string
  readonly roles: readonly string[]
  readonly attributes?: Attributes
}

const KINDS = [null, 'gain', 'loss', 'maybe'] as const
const GAIN = 1
const LOSS = 2

interface Told {
  readonly members: readonly number[]
  readonly was: Formula
  readonly is: Formula
  readonly kind: 'gain' | 'loss' | 'maybe'
}

type Comparer = (permission: string, environment: string, voices: readonly [readonly Voice[], readonly Voice[]]) => { readonly told: readonly Told[], readonly upTo: number | null }

/** Compares one permission in one environment. */
export function createComparer (weighers: readonly [Weigher, Weigher], holders: readonly Holder[]): Comparer {
  const weighersOf = (members: readonly number[]): ReadonlyArray<ReturnType<Weigher['of']>> => {
    const held = members.map(at => holders[at]!)
    const attributes = held.find(holder => holder.attributes !== undefined)?.attributes
    return weighers.map(weigher => weigher.of(held.flatMap(({ roles }) => roles), attributes))
  }
  const compared = new Map<string, number>()
  const changeOf = (was: Formula, is: Formula): number => {
    const key = JSON.stringify([textOf(was), textOf(is)])
    let known = compared.get(key)
    if (known === undefined) compared.set(key, known = (implies(is, was) ? 0 : GAIN) | (implies(was, is) ? 0 : LOSS))
    return known
  }

  return (permission, environment, voices) => {
    const kinds = alikeIn(voices, holders)
    const isCall = kinds.map(([at]) => holders[at!]!.attributes !== undefined)
    // Nobody is two services at once.
    const most = kinds.map(({ length }, kind) => isCall[kind] ? 1 : length)
    const enough = membersThatMatter(voices)
    const told: Told[] = []
    let upTo = Infinity
    let looked = 0
    /** What was told of each set and its parts. */
    let explained = new Map<string, number>()
    for (let size = 1; size <= enough; size++) {
      const next = new Map<string, number>()
      for (const set of multisets(most, size)) {
        if (set.filter(kind => isCall[kind]).length > 1) continue
        if (size > 1 && ++looked > MAX_SETS) return { told, upTo: Math.min(upTo, size - 1) }
        const parts = set.length === 1 ? 0 : set.reduce((all, _, at) => all | explained.get(set.toSpliced(at, 1).join())!, 0)
        // Any of a kind stands for the others.
        const [was, is] = weighersOf(set.map((kind, at) => kinds[kind]![at - set.indexOf(kind)]!)).map(weigh => weigh(permission, environment)) as [Formula, Formula]
        const change = changeOf(was, is)
        next.set(set.join(), change | parts)
        if ((change & ~parts) === 0) continue
        let named = 0
        for (const members of membersOf(set, kinds)) {
          if (size > 1 && ++named > MAX_NAMED) {
            upTo = Math.min(upTo, size - 1)
            break
          }
          told.push({ members, was, is, kind: KINDS[change]! })
        }
      }
      explained = next
    }
    return { told, upTo: upTo === Infinity ? null : upTo }
  }
}

/**
 * How many roles and calls together can make a difference that none of their parts makes. Whatever a caller gains, it
 * gains it with fewer roles as well: one that gives it now, one for each requirement now, and, if it was denied
 * before, whoever denied it: one role, or two that were separated. A loss is a gain the other way about.
 */
function membersThatMatter (voices: readonly [readonly Voice[], readonly Voice[]]): number {
  const most = (count: (voices: readonly Voice[]) => number): number => Math.max(...voices.map(count))
  return 1 + most(all => all.filter(({ kind }) => kind === 'requirement').length) +
    most(all => all.some(({ kind }) => kind === 'separation') ? 2 : all.some(({ kind, denies }) => kind === 'holder' && denies) ? 1 : 0)
}

/** The roles and calls that matter, by their place among all: those together of which the same is said. */
function alikeIn (voices: readonly [readonly Voice[], readonly Voice[]], holders: readonly Holder[]): ReadonlyArray<readonly number[]> {
  const said = new Map<string, string[]>()
  for (const [side, all] of voices.entries()) {
    for (const { kind, subject, text, members } of all) {
      for (const [member, what] of members) append(said, member, JSON.stringify([side, kind === 'holder' ? '' : subject, what, text]))
    }
  }
  const kinds = new Map<string, number[]>()
  for (const [at, { name, attributes }] of holders.entries()) {
    const all = said.get(name)
    if (all !== undefined) append(kinds, JSON.stringify([attributes === undefined, ...all.sort()]), at)
  }
  return [...kinds.values()]
}

/** So many of some kinds, in order; of each kind at most so many. */
function * multisets (most: readonly number[], size: number, from = 0): Generator<readonly number[]> {
  if (size === 0) yield []
  for (let kind = from; kind < most.length; kind++) {
    for (let count = 1; count <= Math.min(size, most[kind]!); count++) {
      for (const rest of multisets(most, size - count, kind + 1)) yield [...Array<number>(count).fill(kind), ...rest]
    }
  }
}

/** All sets with so many of each kind. */
function * membersOf (set: readonly number[], kinds: ReadonlyArray<readonly number[]>): Generator<readonly number[]> {
  if (set.length === 0) return yield []
  const [kind] = set
  const count = set.lastIndexOf(kind!) + 1
  for (const rest of membersOf(set.slice(count), kinds)) {
    for (const some of combinations(kinds[kind!]!, count)) yield [...some, ...rest].sort((a, b) => a - b)
  }
}

function * combinations (items: readonly number[], size: number): Generator<readonly number[]> {
  if (size === 0) yield []
  else for (const [at, item] of items.entries()) for (const rest of combinations(items.slice(at + 1), size - 1)) yield [item, ...rest]
}
