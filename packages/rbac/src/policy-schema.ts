import { Type, type TSchema } from 'typebox'

// Names that reach into prototypes are refused although every lookup is a Map: the generated types and documents are objects.
const NAME = '^(?!constructor$|prototype$)[a-z][a-z0-9_-]*$'
const NAME_WORDS = 'a name of small letters, digits, _ and -'
const PATTERN = '^(\\*|[a-z][a-z0-9_-]*)(:(\\*|[a-z][a-z0-9_-]*)){1,2}$'

const Name = Type.String({ pattern: NAME, expected: NAME_WORDS })
const Names = (description: string, minItems: number): TSchema => Type.Array(Name, { description, minItems, uniqueItems: true })
const Patterns = (description: string, minItems: number): TSchema => Type.Array(Type.String({
  pattern: PATTERN,
  expected: '"resource:action" or "resource:scope:action", where * stands for a whole segment'
}), { description, minItems, uniqueItems: true })
const Description = Type.String({ description: 'For people; shown in documents and explanations' })
const closed = { additionalProperties: false } as const

const resource = Type.Object({
  description: Type.Optional(Description),
  actions: Names('What can be done with the resource', 1),
  scopes: Type.Optional(Names('Parts of the resource that can be granted apart', 1))
}, closed)

const role = Type.Object({
  description: Type.Optional(Description),
  inherits: Type.Optional(Names('Roles whose grants this role has too. Denies are not inherited', 1)),
  allow: Type.Optional(Patterns('What the role may do, in every environment', 1)),
  deny: Type.Optional(Patterns('What nobody may do to whom this role is directly assigned, whatever another role allows', 1))
}, closed)

const environment = Type.Object({
  description: Type.Optional(Description),
  aliases: Type.Optional(Names('Other names of the environment', 1)),
  deny: Type.Optional(Type.Array(Type.Object({
    roles: Names('Directly assigned roles that are denied', 1),
    permissions: Patterns('What they are denied here', 1),
    reason: Type.Optional(Type.String({ description: 'Shown in explanations' }))
  }, closed), { description: 'What this environment takes away', minItems: 1 }))
}, closed)

const record = <Schema extends TSchema>(schema: Schema, description: string): TSchema =>
  Type.Record(Type.String({ pattern: NAME }), schema, { description, minProperties: 1, ...closed })

/** The shape of a policy file. An unknown section is a mistake: a rule that nobody reads must not look like one. */
export const policySchema: TSchema = Type.Object({
  version: Type.Literal(1, { description: 'Version of this format' }),
  resources: record(resource, 'What is protected, and what can be done with it'),
  roles: record(role, 'Who may do what'),
  environments: record(environment, 'Where the policy applies; an environment can only narrow what roles allow')
}, closed)

/** A policy file that matches {@link policySchema}. */
export interface PolicyDocument {
  readonly version: 1
  readonly resources: Readonly<Record<string, ResourceDocument>>
  readonly roles: Readonly<Record<string, RoleDocument>>
  readonly environments: Readonly<Record<string, EnvironmentDocument>>
}

export interface ResourceDocument {
  readonly description?: string
  readonly actions: readonly string[]
  readonly scopes?: readonly string[]
}

export interface RoleDocument {
  readonly description?: string
  readonly inherits?: readonly string[]
  readonly allow?: readonly string[]
  readonly deny?: readonly string[]
}

export interface EnvironmentDocument {
  readonly description?: string
  readonly aliases?: readonly string[]
  readonly deny?: ReadonlyArray<{ readonly roles: readonly string[], readonly permissions: readonly string[], readonly reason?: string }>
}

/** The JSON Schema of policy files, for editors. */
export function policyJsonSchema (): Record<string, unknown> {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'RBAC policy',
    ...withoutWords(policySchema) as Record<string, unknown>
  }
}

/** JSON Schema knows no `expected`; the words are for our own messages. */
function withoutWords (value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutWords)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).filter(([key]) => key !== 'expected').map(([key, member]) => [key, withoutWords(member)]))
}
