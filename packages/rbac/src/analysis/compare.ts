import type { Attributes } from '../conditions/evaluate.js'
import { textOf, type Voice, type Weigher } from '../engine/decision-state.js'
import { implies, type Formula } from './formula.js'
import { append } from '../model/role-graph.js'

/** The maximum number of sets to compare for one permission in one environment. */
const MAX_SETS = 20_000
/** The maximum number of combined sets to report for one change. */
const MAX_NAMED = 100

/** Something a caller can hold: a role, or a service's calls to another service. A caller can hold several. */
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

type Comparer = (
  permission: string,
  environment: string,
  voices: Sides
) => { readonly told: readonly Told[], readonly upTo: number | null }

/** Compares two policies on one permission in one environment. */
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
    const kinds = kindsIn(voices, holders)
    const isCall = (kind: number): boolean => holders[kinds[kind]!.members[0]!]!.attributes !== undefined
    const told: Told[] = []
    let upTo = Infinity
    const explained = new Map<string, number>()
    /** Compares a set of kinds and all its subsets, each once, smaller ones first. */
    const compare = (set: readonly number[]): number => {
      const key = set.join()
      const known = explained.get(key)
      if (known !== undefined) return known
      const parts = set.length === 1 ? 0 : set.reduce((all, _, at) => all | compare(set.toSpliced(at, 1)), 0)
      // Any member of a kind can represent the others.
      const [was, is] = weighersOf(set.map(kind => kinds[kind]!.members[0]!)).map(weigh =>
        weigh(permission, environment)
      ) as [Formula, Formula]
      const change = changeOf(was, is)
      explained.set(key, change | parts)
      if ((change & ~parts) !== 0) {
        let named = 0
        for (const members of membersOf(set.map(kind => kinds[kind]!.members))) {
          if (set.length > 1 && ++named > MAX_NAMED) {
            upTo = Math.min(upTo, set.length - 1)
            break
          }
          told.push({ members, was, is, kind: KINDS[change]! })
        }
      }
      return change | parts
    }

    for (const kind of kinds.keys()) compare([kind])
    let looked = 0
    for (const set of setsThatMatter(kinds, voices)) {
      if (++looked > MAX_SETS) return { told, upTo: 1 }
      if (set.filter(isCall).length < 2) compare(set)
    }
    return { told, upTo: upTo === Infinity ? null : upTo }
  }
}

type Sides = readonly [readonly Voice[], readonly Voice[]]

/** Roles or calls about which both policies say the same. Holding two of them is the same as holding one. */
interface Kind {
  /** Indices into the list of all holders. */
  readonly members: readonly number[]
  /** The name of the first member. */
  readonly name: string
  /** Whether the two policies say different things about them. */
  readonly changed: boolean
}

function kindsIn (voices: Sides, holders: readonly Holder[]): readonly Kind[] {
  const said = voices.map(all => {
    const found = new Map<string, string[]>()
    for (const { kind, subject, text, members } of all) {
      for (const [member, what] of members) {
        append(found, member, JSON.stringify([kind === 'holder' ? '' : subject, what, text]))
      }
    }
    return found
  })
  const kinds = new Map<string, Kind & { readonly members: number[] }>()
  for (const [at, { name, attributes }] of holders.entries()) {
    const [was, is] = said.map(found => [...new Set(found.get(name))].sort().join()) as [string, string]
    if (was === '' && is === '') continue
    const key = JSON.stringify([attributes === undefined, was, is])
    let kind = kinds.get(key)
    if (kind === undefined) kinds.set(key, kind = { members: [], name, changed: was !== is })
    kind.members.push(at)
  }
  return [...kinds.values()]
}

/**
 * The sets of kinds that can make a difference that none of their subsets makes.
 * To gain a permission, a caller needs no more than: one kind that gives it in the new policy; one kind
 * for each requirement of the new policy; and, if the old policy denied it, the kind that denied it or one
 * or two roles that were separated. At least one of these must have changed between the policies. A loss
 * is a gain with the policies swapped.
 */
function * setsThatMatter (kinds: readonly Kind[], voices: Sides): Generator<readonly number[]> {
  const everybody = voices.map(all =>
    JSON.stringify(
      all
        .filter(({ members, kind }) => kind === 'requirement' || members.size === 0)
        .map(({ subject, text }) => [subject, text])
        .sort()
    )
  )
  const concerns = (set: readonly number[]): boolean =>
    everybody[0] !== everybody[1] || set.some(kind => kinds[kind]!.changed)
  const among = (said: readonly Voice[]): readonly number[] => {
    const names = new Set(said.flatMap(({ members }) => [...members.keys()]))
    return [...kinds.keys()].filter(kind => names.has(kinds[kind]!.name))
  }
  for (const [before, after] of [voices, voices.toReversed() as unknown as Sides]) {
    const givers = among(after.filter(({ kind, allows }) => kind === 'holder' && allows))
    const deniers = among(before.filter(({ kind, denies }) => kind === 'holder' && denies)).map(kind => [kind])
    const separated = before.filter(({ kind }) => kind === 'separation').flatMap(voice => pairs(among([voice])))
    const requirements = after.filter(({ kind }) => kind === 'requirement').map(voice => among([voice]))
    for (const giver of givers) {
      for (const denier of [[], ...deniers, ...separated]) yield * fulfilled([giver, ...denier], requirements, concerns)
    }
  }
}

function pairs (kinds: readonly number[]): ReadonlyArray<readonly number[]> {
  return kinds.flatMap((kind, at) => kinds.slice(at + 1).map(other => [kind, other]))
}

/**
 * Extends a set with one kind for each requirement that it does not meet. The results are sorted, and only
 * those that involve a change are yielded.
 */
function * fulfilled (
  set: readonly number[],
  requirements: ReadonlyArray<readonly number[]>,
  concerns: (set: readonly number[]) => boolean
): Generator<readonly number[]> {
  // Skip sets that can no longer involve a change.
  if (!concerns(set) && !requirements.some(concerns)) return
  const [requirement, ...others] = requirements
  if (requirement === undefined) yield [...new Set(set)].sort((a, b) => a - b)
  else if (set.some(kind => requirement.includes(kind))) yield * fulfilled(set, others, concerns)
  else for (const kind of requirement) yield * fulfilled([...set, kind], others, concerns)
}

/** Every combination of one element from each list (Cartesian product), in order. */
function * membersOf ([first, ...others]: ReadonlyArray<readonly number[]>): Generator<readonly number[]> {
  if (first === undefined) return yield []
  for (const member of first) for (const rest of membersOf(others)) yield [member, ...rest].sort((a, b) => a - b)
}
