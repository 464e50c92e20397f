/**
 * Declares the options of a plugin once: `checkOptions` takes checks and defaults from the table, and the table in the
 * README is generated from it. `Given` is the type that users write; `Checked` is the type after the check, in which
 * options with a default are always present. The compiler keeps the table and the two types consistent.
 *
 * @example
 * const OPTIONS: OptionTable<{ path?: string, retries?: number }> = {
 *   path: { kind: 'string', pattern: /^\//, expected: 'a path such as "/ws"', default: '/ws', about: 'URL path' },
 *   retries: { kind: 'integer', min: 0, max: 10, default: 3, about: 'How often a call is repeated' }
 * }
 */
export type OptionTable<Given extends object, Checked extends object = Required<Given>> = {
  readonly [Name in keyof Given & keyof Checked]-?: OptionSpec<Given[Name], Checked[Name]>
}

/**
 * Declares one option. An option that users may leave out has a `default`, or `optional: true` when it is then
 * undefined after the check as well.
 */
export type OptionSpec<Given, Checked = Given> =
  & Kind<Exclude<Given, undefined>, Exclude<Checked, undefined>>
  & Common<Exclude<Given, undefined>>
  & Documented
  & Presence<Given, Checked>

/** Declares each item of a list, or each member of a record. */
export type ItemSpec<Given, Checked = Given> = Kind<Given, Checked> & Common<Given>

type Word = string | number | boolean | null

interface Common<Given> {
  /** Values that are accepted besides those of the kind, such as `false` or `'memory'`. */
  readonly or?: ReadonlyArray<Extract<Given, Word>>
  /** Whether messages must not repeat the value. @default false */
  readonly secret?: boolean
  /**
   * A further check of a value of this kind. Returns the problem as the end of a sentence, such as `has no host`, or
   * null. It must not quote a secret.
   */
  verify? (value: Given): string | null
}

interface Documented {
  /** What the option does, in one sentence for the README. */
  readonly about: string
  /** The default in the README's words, for a default that the value does not explain. */
  readonly defaultText?: string
}

type Presence<Given, Checked> = undefined extends Given
  ? undefined extends Checked ? Optional : Defaulted<Exclude<Given, undefined>>
  : Mandatory

interface Mandatory {
  readonly default?: never
  readonly optional?: never
}

interface Optional {
  readonly default?: never
  readonly optional: true
}

interface Defaulted<Given> {
  /** In the form that users write: it is checked like a given value, so nested defaults are filled in. */
  readonly default: Given
  readonly optional?: never
}

type Kind<Given, Checked> =
  | (boolean extends Checked ? BooleanKind : never)
  | ([Extract<Checked, number>] extends [never] ? never : IntegerKind | NumberKind)
  | ([Extract<Checked, string>] extends [never] ? never : StringKind | ChoiceKind<Extract<Checked, string>>)
  | Lists<Extract<Given, readonly unknown[]>, Extract<Checked, readonly unknown[]>>
  | Objects<PlainObject<Given>, PlainObject<Checked>>
  | EitherKind<Alternative<Given, Checked>>
  | FunctionKind
  | CustomKind

type Alternative<Given, Checked> = Kind<Given, Checked> & Pick<Common<Given>, 'verify'>

type Lists<Given, Checked> = [Given, Checked] extends [ReadonlyArray<infer GivenItem>, ReadonlyArray<infer Item>]
  ? ListKind<ItemSpec<GivenItem, Item>>
  : never

type Objects<Given extends object, Checked extends object> =
  | ObjectKind<OptionTable<Given, Checked>>
  | RecordKind<ItemSpec<Member<Given>, Member<Checked>>>
  | OneOfKind

type PlainObject<Value> = Exclude<Extract<Value, object>, readonly unknown[] | ((...args: never[]) => unknown)>
type Member<Value> = Exclude<Value[keyof Value], undefined>

/** A regular expression, or `{ test: isPort }`. */
interface Pattern {
  test (value: string): boolean
}

interface BooleanKind {
  readonly kind: 'boolean'
}

interface IntegerKind {
  readonly kind: 'integer'
  readonly min: number
  /** @default Number.MAX_SAFE_INTEGER */
  readonly max?: number
}

/** A finite number. */
interface NumberKind {
  readonly kind: 'number'
  /** The smallest number that is accepted. */
  readonly min?: number
  /** The number must be greater than this. */
  readonly above?: number
  readonly max?: number
}

/** A string that is not empty. */
interface StringKind {
  readonly kind: 'string'
  /** What the pattern or `verify` accepts, such as `a path such as "/ws"`. @default 'a non-empty string' */
  readonly expected?: string
  readonly pattern?: Pattern
  /** In UTF-16 code units. */
  readonly maxLength?: number
}

interface ChoiceKind<Choice extends string> {
  readonly kind: 'choice'
  readonly choices: readonly Choice[]
}

interface ListKind<Items> {
  readonly kind: 'list'
  readonly items: Items
  /** The smallest number of items. @default 0 */
  readonly min?: number
}

/** An object with a table of its own. */
interface ObjectKind<Table> {
  readonly kind: 'object'
  readonly options: Table
}

/** An object whose members have names that users choose, or that are listed, and values of one kind. */
interface RecordKind<Values> {
  readonly kind: 'record'
  /** @default any name */
  readonly names?: readonly string[] | { readonly pattern: Pattern, readonly expected: string }
  readonly values: Values
  /** The smallest number of members. @default 0 */
  readonly min?: number
}

/**
 * An object in one of several forms, each listed under a member that only this form has. The first form whose member
 * is present applies, otherwise the last one.
 */
interface OneOfKind {
  readonly kind: 'oneOf'
  readonly forms: Readonly<Record<string, ObjectKind<AnyTable> | CustomKind>>
}

/** A value of one of several kinds, such as a number or a function. The first kind that the value is of applies. */
interface EitherKind<Alternatives> {
  readonly kind: 'either'
  readonly kinds: readonly Alternatives[]
}

interface FunctionKind {
  readonly kind: 'function'
  /** @default 'a function' */
  readonly expected?: string
}

/** Anything else, such as a Redis client or a key. */
interface CustomKind {
  readonly kind: 'custom'
  /** What is accepted, such as `a Redis client with evalsha()`. */
  readonly expected: string
  accepts (value: unknown): boolean
}

/** A table of any options, as the checker reads it. */
export type AnyTable = Readonly<Record<string, AnySpec & Documented & AnyPresence>>

interface AnyPresence {
  readonly default?: unknown
  readonly optional?: true
}

/** An option of any type, as the checker reads it. */
export type AnySpec = AnyKind & {
  readonly or?: readonly Word[]
  readonly secret?: boolean
  verify? (value: unknown): string | null
}

type AnyKind =
  | BooleanKind | IntegerKind | NumberKind | StringKind | ChoiceKind<string> | ListKind<AnySpec>
  | ObjectKind<AnyTable> | RecordKind<AnySpec> | OneOfKind | EitherKind<AnySpec> | FunctionKind | CustomKind
