import { append } from '@marty/core'
import { InternedRows } from './interned-rows.js'
import { UNCONDITIONAL, type Conditions, type PolicyRow, type RoleLink } from './casbin-engine.js'
import { applies, FALSE, TRUE, UNKNOWN, type Question, type Truth } from '../conditions/evaluate.js'
import { parsePermission, ruleMatches, type Effect, type PermissionParts } from '../model/permission.js'
import { roleClosures } from '../model/role-graph.js'

/**
 * All decisions of a policy, precomputed. There is one row of permissions for each subject and
 * environment, with three bits for each permission: allowed, conditional, and denied. The bits are
 * interleaved, four to a permission and eight permissions to a cell, so that one read returns all of them.
 * Rows are split into pages, and equal pages and rows are stored once, so that the size of a large policy
 * depends only on what differs in it.
 */
export interface PolicyIndex {
  readonly subjects: ReadonlyMap<string, number>
  readonly sizeBytes: number
  readonly tables: Tables
  /**
   * The offsets of the rows of these subjects, in every environment: the caller's identity for {@link
   * PolicyIndex.decide}.
   */
  rowsOf(subjects: readonly number[]): Rows
  /**
   * Combines the bits of the caller's rows with OR; a deny overrides. Returns `UNKNOWN` if the decision
   * depends on conditions. Ids that do not exist are denied.
   */
  decide(rows: Rows, permissionId: number, environmentId: number): Truth
  /** Decides by evaluating conditions, when {@link PolicyIndex.decide} returns `UNKNOWN`. */
  decideConditions(
    rows: Rows,
    permissionId: number,
    environmentId: number,
    conditions: Conditions,
    question: Question
  ): boolean
  /**
   * The input of {@link PolicyIndex.decideConditions}: whether an allow or a deny applies unconditionally,
   * and the conditional rules.
   */
  conditionalsOf(
    rows: Rows,
    permissionId: number,
    environmentId: number
  ): { readonly allowed: boolean, readonly denied: boolean, readonly rules: readonly Conditional[] }
  /** Numbers of the conditions on which a decision about a permission may depend, for any caller. */
  conditionsOf(permissionId: number, environmentId: number): readonly number[]
}

/** Offsets of rows: for each subject, one for every environment. */
export type Rows = readonly number[]

/**
 * Names, indexed by id. An id always stays with its name.
 * Names that no longer exist keep their ids, and are denied.
 */
export interface Ids {
  readonly permissions: readonly string[]
  readonly environments: readonly string[]
}

/** A conditional rule, as it applies to one cell of permissions. */
export interface Conditional {
  /** The lowest bit of each permission that the rule matches. */
  readonly mask: number
  readonly effect: Effect
  readonly condition: number
}

// The bits of a permission in its cell.
const ALLOW = 1
const CONDITIONAL = 2
const DENY = 4
const UNCONDITIONAL_BITS: Readonly<Record<Effect, number>> = { allow: ALLOW, deny: DENY }
/**
 * The result for each combination of these bits, two bits each: a deny is FALSE whatever else is set;
 * otherwise a condition is UNKNOWN, and an allow is TRUE.
 */
const TRUTHS = TRUE << 2 * ALLOW | UNKNOWN << 2 * CONDITIONAL | UNKNOWN << 2 * (CONDITIONAL | ALLOW)

/**
 * A page holds 128 permissions in 64 bytes, one cache line; then, for each cell, the number of its list of
 * conditional rules.
 */
const CELLS_A_PAGE = 16
const PAGE = 2 * CELLS_A_PAGE
const PAGE_SHIFT = 7
const RULES = CELLS_A_PAGE

/**
 * The memory that V8 needs for an empty list, and for each object in a list including its slot, with
 * 64-bit pointers.
 */
const LIST_BYTES = 48
const CONDITIONAL_BYTES = 56

/** Compiles Casbin's rows to an index. `live` holds the names in `ids` that the policy still defines. */
export function compileIndex (
  rows: readonly PolicyRow[],
  links: readonly RoleLink[],
  roles: readonly string[],
  ids: Ids,
  live: Ids
): PolicyIndex {
  const subjects = intern([...roles, ...rows.map(([subject]) => subject)])
  const closures = roleClosures(roles, links)
  const spread = placesOf(ids, live)
  const rulesOf = new Map<string, Row[]>()
  for (const row of rows) append(rulesOf, row[0], readRow(row, spread))

  const environments = ids.environments.length
  const builder = new RowBuilder(Math.max(1, Math.ceil(ids.permissions.length / (1 << PAGE_SHIFT))))
  const rowOf = new Int32Array(subjects.size * environments)
  for (const [subject, id] of subjects) {
    // An allow applies to every role that inherits it; a deny applies only to the role it is written for.
    const reached = new Map<string, Row[]>()
    for (const member of closures.get(subject) ?? [subject]) {
      for (const row of rulesOf.get(member) ?? []) {
        if (row.effect === 'allow' || member === subject) append(reached, row.environment, row)
      }
    }
    const everywhere = reached.get('*') ?? []
    const common = builder.build(everywhere)
    for (const [at, name] of ids.environments.entries()) {
      if (!live.environments.includes(name)) continue
      const here = reached.get(name)
      rowOf[id * environments + at] = here === undefined ? common : builder.build([...everywhere, ...here])
    }
  }
  return new CompiledIndex(subjects, ids, builder.tables(rowOf))
}

/**
 * Builds the row of a subject from the rules that apply to it. A class for the same reason as {@link
 * CompiledIndex}.
 */
class RowBuilder {
  readonly #pages = new InternedRows(PAGE)
  readonly #rows: InternedRows
  readonly #lists = new ConditionalLists()
  readonly #scratch: Int32Array
  readonly #pageOf: Int32Array

  constructor (pagesARow: number) {
    this.#rows = new InternedRows(pagesARow)
    this.#scratch = new Int32Array(pagesARow * PAGE)
    this.#pageOf = new Int32Array(pagesARow)
  }

  build (rules: readonly Row[]): number {
    const scratch = this.#scratch.fill(0)
    const conditionals = new Map<number, Conditional[]>()
    for (const { effect, condition, places } of rules) {
      const bit = condition === null ? UNCONDITIONAL_BITS[effect] : CONDITIONAL
      for (const { cell, mask } of places) {
        scratch[cell]! |= mask * bit
        if (condition !== null) append(conditionals, cell, { mask, effect, condition })
      }
    }
    for (const [cell, list] of conditionals) scratch[cell + RULES] = this.#lists.intern(list)
    for (let page = 0; page < this.#pageOf.length; page++) this.#pageOf[page] = this.#pages.intern(scratch, page * PAGE)
    return this.#rows.intern(this.#pageOf, 0)
  }

  /** Completes the tables. `rowOf` holds offsets among the rows. */
  tables (rowOf: Int32Array): Tables {
    const pages = this.#pages.toArray()
    const rows = this.#rows.toArray()
    const cells = new Int32Array(pages.length + rows.length)
    cells.set(pages)
    cells.set(rows, pages.length)
    return { rowOf: rowOf.map(row => pages.length + row), cells, lists: this.#lists.all }
  }
}

/** Creates an index from the tables of another, such as one that was compiled in another thread. */
export function restoreIndex (subjects: ReadonlyMap<string, number>, ids: Ids, tables: Tables): PolicyIndex {
  return new CompiledIndex(subjects, ids, tables)
}

export interface Tables {
  /** For each subject and environment, the offset of its row in `cells`. */
  readonly rowOf: Int32Array
  /**
   * First the pages, then the rows, which hold the offset of each of their pages in this array. All in one
   * array, because locating a second one would take as long as reading from it.
   */
  readonly cells: Int32Array
  readonly lists: ReadonlyArray<readonly Conditional[]>
}

/**
 * A class, because its methods stay the same functions in every generation: closures that differ from one
 * generation to the next would be slower to call.
 */
class CompiledIndex implements PolicyIndex {
  readonly subjects: ReadonlyMap<string, number>
  readonly tables: Tables
  readonly #permissions: number
  readonly #environments: number
  readonly #cells: Int32Array

  constructor (subjects: ReadonlyMap<string, number>, { permissions, environments }: Ids, tables: Tables) {
    this.subjects = subjects
    this.tables = tables
    this.#permissions = permissions.length
    this.#environments = environments.length
    this.#cells = tables.cells
  }

  get sizeBytes (): number {
    const { rowOf, cells, lists } = this.tables
    return (
      rowOf.byteLength +
      cells.byteLength +
      lists.reduce((sum, { length }) => sum + LIST_BYTES + length * CONDITIONAL_BYTES, 0)
    )
  }

  rowsOf (held: readonly number[]): Rows {
    const rows: number[] = []
    for (const subject of held) {
      for (let at = 0; at < this.#environments; at++) rows.push(this.tables.rowOf[subject * this.#environments + at]!)
    }
    return rows
  }

  /**
   * The hot path: nearly the entire cost of a decision. No branch depends on the data, and pages are
   * aligned to multiples of their length.
   */
  decide (rows: Rows, permission: number, environment: number): Truth {
    const environments = this.#environments
    // An id beyond the table would read from another row.
    if (!(permission >= 0 && permission < this.#permissions && environment >= 0 && environment < environments)) {
      return FALSE
    }
    const cells = this.#cells
    const page = permission >> PAGE_SHIFT
    const inPage = cellInPage(permission)
    let found = 0
    for (let at = environment; at < rows.length; at += environments) {
      found |= cells[cells[(rows[at]! + page) | 0]! | inPage]!
    }
    return ((TRUTHS >>> (2 * bitsOf(found, permission))) & 3) as Truth
  }

  decideConditions (
    rows: Rows,
    permission: number,
    environment: number,
    conditions: Conditions,
    question: Question
  ): boolean {
    const { cells, lists } = this.tables
    let allowed = false
    for (let at = environment; at < rows.length; at += this.#environments) {
      const cell = this.#cellOf(rows[at]!, permission)
      const bits = bitsOf(cells[cell]!, permission)
      if ((bits & ALLOW) !== 0) allowed = true
      if ((bits & CONDITIONAL) === 0) continue
      for (const { mask, effect, condition } of lists[cells[cell + RULES]!]!) {
        if (
          bitsOf(mask, permission) === 0 ||
          (effect === 'allow' && allowed) ||
          !applies(effect, conditions[condition]!.evaluate(question))
        ) {
          continue
        }
        if (effect === 'deny') return false
        allowed = true
      }
    }
    return allowed
  }

  conditionalsOf (
    rows: Rows,
    permission: number,
    environment: number
  ): { allowed: boolean, denied: boolean, rules: Conditional[] } {
    const { cells, lists } = this.tables
    let found = 0
    const rules: Conditional[] = []
    for (let at = environment; at < rows.length; at += this.#environments) {
      const cell = this.#cellOf(rows[at]!, permission)
      found |= bitsOf(cells[cell]!, permission)
      for (const rule of lists[cells[cell + RULES]!]!) if (bitsOf(rule.mask, permission) !== 0) rules.push(rule)
    }
    return { allowed: (found & ALLOW) !== 0, denied: (found & DENY) !== 0, rules }
  }

  conditionsOf (permission: number, environment: number): readonly number[] {
    const { rowOf, cells, lists } = this.tables
    const found = new Set<number>()
    for (const subject of this.subjects.values()) {
      const cell = this.#cellOf(rowOf[subject * this.#environments + environment]!, permission)
      for (const { mask, condition } of lists[cells[cell + RULES]!]!) {
        if (bitsOf(mask, permission) !== 0) found.add(condition)
      }
    }
    return [...found]
  }

  #cellOf (row: number, permission: number): number {
    return this.#cells[row + (permission >> PAGE_SHIFT)]! + cellInPage(permission)
  }
}

// Constants, because V8 inlines the calls of functions that cannot be reassigned.
const cellInPage = (permission: number): number => permission >> 3 & CELLS_A_PAGE - 1
/**
 * The bits of a permission in a cell or a mask. JavaScript shifts by the count modulo 32, which matches
 * the eight permissions of a cell.
 */
const bitsOf = (cell: number, permission: number): number => cell >>> (permission << 2) & 7

interface Row {
  readonly environment: string
  readonly effect: Effect
  readonly condition: number | null
  readonly places: Places
}

/** The cells of a row that a pattern matches, and in each the lowest bit of every matching permission. */
type Places = ReadonlyArray<{ readonly cell: number, readonly mask: number }>

function readRow ([, environment, resource, scope, action, effect, condition]: PolicyRow, spread: Spread): Row {
  return {
    environment,
    effect,
    condition: condition === UNCONDITIONAL ? null : Number(condition),
    places: spread({ resource, scope, action }, effect)
  }
}

type Spread = (pattern: PermissionParts, effect: Effect) => Places

/** Expands patterns to permissions, each different pattern once. */
function placesOf ({ permissions }: Ids, live: Ids): Spread {
  const idOf = intern(permissions)
  const byResource = new Map<string, Array<{ readonly id: number, readonly parts: PermissionParts }>>()
  for (const name of live.permissions) {
    const parts = parsePermission(name)!
    append(byResource, parts.resource, { id: idOf.get(name)!, parts })
  }
  const all = [...byResource.values()].flat()
  const known = new Map<string, Places>()
  return (pattern, effect) => {
    const key = `${pattern.resource}:${pattern.scope}:${pattern.action}:${effect}`
    let places = known.get(key)
    if (places === undefined) {
      const masks = new Map<number, number>()
      for (const { id, parts } of pattern.resource === '*' ? all : byResource.get(pattern.resource) ?? []) {
        if (!ruleMatches(pattern, parts, effect)) continue
        const cell = (id >> PAGE_SHIFT) * PAGE + cellInPage(id)
        masks.set(cell, (masks.get(cell) ?? 0) | 1 << (id << 2))
      }
      known.set(key, places = [...masks].map(([cell, mask]) => ({ cell, mask })))
    }
    return places
  }
}

/** Lists of conditional rules; equal lists are stored once. List 0 is empty. */
class ConditionalLists {
  readonly all: Conditional[][] = [[]]
  readonly #numbers = new Map<string, number>()

  intern (list: Conditional[]): number {
    const key = list.map(({ mask, effect, condition }) => `${mask} ${effect} ${condition}`).join()
    let number = this.#numbers.get(key)
    if (number === undefined) this.#numbers.set(key, number = this.all.push(list) - 1)
    return number
  }
}

function intern (names: readonly string[]): ReadonlyMap<string, number> {
  const ids = new Map<string, number>()
  for (const name of names) if (!ids.has(name)) ids.set(name, ids.size)
  return ids
}
