import { Blocks } from './interned-rows.js'
import { UNCONDITIONAL, type Conditions, type PolicyRow, type RoleLink } from './casbin-engine.js'
import { applies, FALSE, TRUE, UNKNOWN, type Question, type Truth } from '../conditions/evaluate.js'
import { parsePermission, speaksOf, type Effect, type PermissionParts } from '../model/permission.js'
import { append, roleClosures } from '../model/role-graph.js'

/**
 * Every decision of a policy, worked out beforehand. For each subject and environment there is a row of permissions in
 * three bit planes: what is allowed, what hangs on conditions, and what is denied. The planes are interleaved, four bits
 * to a permission and eight permissions to a cell, so that one look tells all of them. Rows are cut into pages, and each
 * different page and row is kept once, so that a large policy costs no more than what is different in it.
 */
export interface PolicyIndex {
  readonly subjects: ReadonlyMap<string, number>
  readonly sizeBytes: number
  readonly tables: Tables
  /** Where the rows of these subjects begin, in every environment: what a caller is, for {@link PolicyIndex.decide}. */
  rowsOf(subjects: readonly number[]): Rows
  /** Ors the planes of the caller's rows: a deny denies. `UNKNOWN` when it hangs on conditions. Ids that do not exist are denied. */
  decide(rows: Rows, permissionId: number, environmentId: number): Truth
  /** The answer where {@link PolicyIndex.decide} has none. */
  decideConditions(
    rows: Rows,
    permissionId: number,
    environmentId: number,
    conditions: Conditions,
    question: Question
  ): boolean
  /** What {@link PolicyIndex.decideConditions} weighs: whether an allow or a deny always applies, and the rules that hang on conditions. */
  conditionalsOf(
    rows: Rows,
    permissionId: number,
    environmentId: number
  ): { readonly allowed: boolean, readonly denied: boolean, readonly rules: readonly Conditional[] }
  /** Numbers of the conditions that somebody's decision about a permission may hang on. */
  conditionsOf(permissionId: number, environmentId: number): readonly number[]
}

/** Places of rows, for every environment in turn. */
export type Rows = readonly number[]

/** Names by id. An id stays with its name for ever; names that are no longer there keep theirs, and are denied. */
export interface Ids {
  readonly permissions: readonly string[]
  readonly environments: readonly string[]
}

/** A conditional rule, as it concerns one cell of permissions. */
export interface Conditional {
  /** The lowest bit of each permission it speaks of. */
  readonly mask: number
  readonly effect: Effect
  readonly condition: number
}

// Bits of a permission in its cell.
const ALLOW = 1
const CONDITIONAL = 2
const DENY = 4
/** What they come to, two bits each: a deny is FALSE whatever else there is, then a condition UNKNOWN, an allow TRUE. */
const TRUTHS = TRUE << 2 * ALLOW | UNKNOWN << 2 * CONDITIONAL | UNKNOWN << 2 * (CONDITIONAL | ALLOW)

/** 128 permissions in 64 bytes, a cache line; then, for each cell, the number of its list of conditional rules. */
const CELLS_A_PAGE = 16
const PAGE = 2 * CELLS_A_PAGE
const PAGE_SHIFT = 7
const RULES = CELLS_A_PAGE

/** What V8 needs for an empty list, and for each object in it with its place, where pointers have 64 bits. */
const LIST_BYTES = 48
const CONDITIONAL_BYTES = 56

/** Compiles Casbin's rows. `live` says which of the names in `ids` the policy still defines. */
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
    // An allow reaches every role that inherits it; a deny stays where it was written.
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

/** Puts the rules that reach a subject into a row of the tables. A class for the same reason as {@link CompiledIndex}. */
class RowBuilder {
  readonly #pages = new Blocks(PAGE)
  readonly #rows: Blocks
  readonly #lists = new ConditionalLists()
  readonly #scratch: Int32Array
  readonly #pageOf: Int32Array

  constructor (pagesARow: number) {
    this.#rows = new Blocks(pagesARow)
    this.#scratch = new Int32Array(pagesARow * PAGE)
    this.#pageOf = new Int32Array(pagesARow)
  }

  build (rules: readonly Row[]): number {
    const scratch = this.#scratch.fill(0)
    const conditionals = new Map<number, Conditional[]>()
    for (const { effect, condition, places } of rules) {
      for (const { cell, mask } of places) {
        scratch[cell]! |= mask * (condition !== null ? CONDITIONAL : effect === 'allow' ? ALLOW : DENY)
        if (condition !== null) append(conditionals, cell, { mask, effect, condition })
      }
    }
    for (const [cell, list] of conditionals) scratch[cell + RULES] = this.#lists.intern(list)
    for (let page = 0; page < this.#pageOf.length; page++) this.#pageOf[page] = this.#pages.intern(scratch, page * PAGE)
    return this.#rows.intern(this.#pageOf, 0)
  }

  /** Takes where the rows begin among themselves. */
  tables (rowOf: Int32Array): Tables {
    const pages = this.#pages.words()
    const rows = this.#rows.words()
    const cells = new Int32Array(pages.length + rows.length)
    cells.set(pages)
    cells.set(rows, pages.length)
    return { rowOf: rowOf.map(row => pages.length + row), cells, lists: this.#lists.all }
  }
}

/** An index out of the tables of another, such as one that was compiled in another thread. */
export function restoreIndex (subjects: ReadonlyMap<string, number>, ids: Ids, tables: Tables): PolicyIndex {
  return new CompiledIndex(subjects, ids, tables)
}

export interface Tables {
  /** By subject and environment: where the row begins in `cells`. */
  readonly rowOf: Int32Array
  /** Pages of planes, then rows: by page, where in here the page begins. In one piece, because finding a piece takes as long as reading from it. */
  readonly cells: Int32Array
  readonly lists: ReadonlyArray<readonly Conditional[]>
}

/** A class, because its methods stay one and the same across generations: closures of several would be slower to call. */
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

  /** Nearly all that a decision costs. No branch hangs on what is found, and pages begin at multiples of their length. */
  decide (rows: Rows, permission: number, environment: number): Truth {
    const environments = this.#environments
    // An id beyond the table would read another row.
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

// Constants, because a call of one is folded into its caller.
const cellInPage = (permission: number): number => permission >> 3 & CELLS_A_PAGE - 1
/** The bits of a permission in a cell, or in a mask. A shift by more than 31 begins anew, as every cell does. */
const bitsOf = (cell: number, permission: number): number => cell >>> (permission << 2) & 7

interface Row {
  readonly environment: string
  readonly effect: Effect
  readonly condition: number | null
  readonly places: Places
}

/** Where the permissions are in a row that a pattern speaks of: a cell, and the lowest bit of each in it. */
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

/** Spreads patterns over the permissions; each pattern once. */
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
        if (!speaksOf(pattern, parts, effect)) continue
        const cell = (id >> PAGE_SHIFT) * PAGE + cellInPage(id)
        masks.set(cell, (masks.get(cell) ?? 0) | 1 << (id << 2))
      }
      known.set(key, places = [...masks].map(([cell, mask]) => ({ cell, mask })))
    }
    return places
  }
}

/** Lists of conditional rules, each different one kept once; list 0 is empty. */
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
