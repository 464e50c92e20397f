/** The environment of all questions. */
export const ENVIRONMENT = 'production'
export const OWNER = 'alice'

const ACTIONS = ['create', 'read', 'update', 'delete'] as const

export interface Pair {
  readonly resource: string
  readonly action: typeof ACTIONS[number]
}

/** A role in a form that every engine supports: without conditional rules and rules of other environments. */
export interface RoleData {
  readonly name: string
  readonly inherits: string | null
  readonly allow: readonly Pair[]
  /** Applies to callers with this role itself, not to those that inherit it. */
  readonly deny: readonly Pair[]
}

/** One question, with the names in the form that each engine needs, and the correct answer. */
export interface Question extends Pair {
  /** Frozen and shared by all questions of a caller, as the roles of a principal are. */
  readonly roles: readonly string[]
  readonly permission: string
  readonly allowed: boolean
}

export interface PolicyData {
  /** The whole policy as YAML. */
  readonly text: string
  readonly roles: readonly RoleData[]
  /** Half of them are allowed. None depends on a condition. */
  questions (count: number, rolesEach: number): readonly Question[]
  /** The answers depend on a condition: {@link OWNER} must own the resource. Half of them are allowed. */
  conditioned (count: number): readonly Question[]
}

/** The length of each chain of roles that inherit from each other. */
const CHAIN = 4
const CALLERS = 256

type Kind = 'allow' | 'when' | 'deny' | 'production' | 'development'
/** The kinds of a role's rules, in turn. Rules of an environment are denies. */
const KINDS: readonly Kind[] = [
  'allow', 'when', 'allow', 'deny', 'allow', 'allow', 'allow', 'production', 'allow', 'allow', 'when', 'allow',
  'deny', 'allow', 'allow', 'development'
]

/** For each role, the kind of its rule about a permission, by the permission's number. */
type Written = ReadonlyArray<ReadonlyMap<number, Kind>>

/** A policy with this many rules, always the same: as many roles as rules per role, and ten rules per permission. */
export function policyData (rules: number): PolicyData {
  const random = createRandom(rules)
  const pick = (below: number): number => Math.floor(random() * below)
  const permissions = Array.from({ length: Math.max(16, Math.ceil(rules / 10)) }, (_, id): Pair => ({
    resource: literal(`resource${id >> 2}`),
    action: ACTIONS[id & 3]!
  }))
  const names = permissions.map(permission => literal(textOf(permission)))
  const written = Array.from({ length: Math.round(Math.sqrt(rules)) }, () => new Map<number, Kind>())
  for (let rule = 0; rule < rules; rule++) {
    const role = rule % written.length
    let permission = pick(permissions.length)
    while (written[role]!.has(permission)) permission = (permission + 1) % permissions.length
    written[role]!.set(permission, KINDS[(written[role]!.size + role) % KINDS.length]!)
  }
  const chains = written.map((_, role) => Array.from({ length: role % CHAIN + 1 }, (_, step) => role - step))
  const callersWith = memoized((count: number) => Array.from({ length: CALLERS }, () => {
    const held = new Set<number>()
    while (held.size < count) held.add(pick(written.length))
    return { held: [...held], roles: Object.freeze([...held].map(nameOf)) }
  }))

  const draw = (
    count: number,
    rolesEach: number,
    wanted: (number: number, found: Record<Kind, boolean>) => boolean
  ): readonly Question[] =>
    Array.from({ length: count }, (_, number) => {
      for (;;) {
        const { held, roles } = callersWith(rolesEach)[pick(CALLERS)]!
        const permission = pick(permissions.length)
        const inherited = (kind: Kind): boolean =>
          held.some(role => chains[role]!.some(member => written[member]!.get(permission) === kind))
        const direct = (kind: Kind): boolean => held.some(role => written[role]!.get(permission) === kind)
        const found = {
          allow: inherited('allow'),
          when: inherited('when'),
          deny: direct('deny'),
          production: direct('production'),
          development: direct('development')
        }
        if (!wanted(number, found)) continue
        return { ...permissions[permission]!, roles, permission: names[permission]!, allowed: number % 2 === 0 }
      }
    })
  return {
    text: write(permissions, written),
    roles: written.map((rules, role) => {
      const pairs = (...kinds: readonly Kind[]): Pair[] =>
        [...rules].filter(([, kind]) => kinds.includes(kind)).map(([permission]) => permissions[permission]!)
      return { name: nameOf(role), inherits: parentOf(role), allow: pairs('allow'), deny: pairs('deny', ENVIRONMENT) }
    }),
    questions: (count, rolesEach) =>
      draw(
        count,
        rolesEach,
        (number, { allow, when, deny, production }) => !when && (allow && !deny && !production) === (number % 2 === 0)
      ),
    conditioned: count =>
      draw(count, 1, (_, { allow, when, deny, production }) => when && !allow && !deny && !production)
  }
}

function nameOf (role: number): string {
  return literal(`role${role}`)
}

/** The string as V8 stores literals: once, so that two are compared by address. Names in code are literals too. */
function literal (text: string): string {
  return Object.keys({ [text]: null })[0]!
}

function parentOf (role: number): string | null {
  return role % CHAIN === 0 ? null : nameOf(role - 1)
}

function textOf ({ resource, action }: Pair): string {
  return `${resource}:${action}`
}

/** Writes the policy with one line per rule, as people do. */
function write (permissions: readonly Pair[], written: Written): string {
  const list = (title: string, entries: readonly string[]): string[] =>
    entries.length === 0 ? [] : [`    ${title}:`, ...entries.map(entry => `      - ${entry}`)]
  const of = (rules: ReadonlyMap<number, Kind>, kind: Kind): string[] =>
    [...rules].filter(([, is]) => is === kind).map(([permission]) => textOf(permissions[permission]!))
  const narrowed = (kind: 'production' | 'development'): string[] => written.flatMap((rules, role) => {
    const denied = of(rules, kind)
    return denied.length === 0
      ? []
      : [`roles: [${nameOf(role)}]\n        permissions: [${denied.map(quoted).join(', ')}]`]
  })
  return [
    'version: 1',
    'resources:',
    ...new Set(
      permissions.map(
        ({ resource }) => `  ${resource}: { actions: [${ACTIONS.join(', ')}], attributes: { owner: text } }`
      )
    ),
    'roles:',
    ...written.flatMap((rules, role) => [
      `  ${nameOf(role)}:`,
      ...(parentOf(role) === null ? [] : [`    inherits: [${parentOf(role)}]`]),
      ...list('allow', [
        ...of(rules, 'allow').map(quoted),
        ...of(rules, 'when').map(
          permission => `{ permission: ${quoted(permission)}, when: resource.owner == principal.id }`
        )
      ]),
      ...list('deny', of(rules, 'deny').map(quoted))
    ]),
    'environments:',
    ...(['production', 'development'] as const).flatMap(kind => [
      `  ${kind}:`,
      '    description: One of two',
      ...list('deny', narrowed(kind))
    ]),
    ''
  ].join('\n')
}

function quoted (text: string): string {
  return `'${text}'`
}

function memoized<Key, Value> (make: (key: Key) => Value): (key: Key) => Value {
  const made = new Map<Key, Value>()
  return key => {
    if (!made.has(key)) made.set(key, make(key))
    return made.get(key)!
  }
}

/** Numbers in [0, 1), the same for the same seed (a xorshift of 32 bits). */
function createRandom (seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}
