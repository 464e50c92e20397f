import { compileSchema, list, object, oneOf, optional, record, text, type JsonSchema, type Matches } from './json-schema.js'

// Names that reach into prototypes are refused. Every lookup here is a Map, but the generated types and
// documents are objects. `null`, `true` and `false` are refused because YAML produces them for a key that
// is missing or not a string.
const NAME = '^(?!constructor$|prototype$|null$|true$|false$)[a-z][a-z0-9_-]*$'
const ATTRIBUTE = '^(?!constructor$|prototype$)[A-Za-z][A-Za-z0-9_-]*$'
const NAME_WORDS = 'a name of small letters, digits, _ and -'
const PATTERN = '^(\\*|[a-z][a-z0-9_-]*)(:(\\*|[a-z][a-z0-9_-]*)){1,2}$'

const PATTERN_WORDS = '"resource:action" or "resource:scope:action", where * stands for a whole segment'

const Name = text({ pattern: NAME, expected: NAME_WORDS })
const Names = (description: string, minItems: number): JsonSchema =>
  list(Name, { description, minItems, uniqueItems: true })
const Pattern = text({ pattern: PATTERN, expected: PATTERN_WORDS })
const Patterns = (description: string, minItems: number): JsonSchema =>
  list(Pattern, { description, minItems, uniqueItems: true })
const Description = text({ description: 'For people to read; shown in documents and explanations' })
const Reason = text({ description: 'Shown in explanations' })
const When = (description: string): JsonSchema =>
  text({
    description: `${description}: a condition such as resource.owner == principal.id`,
    minLength: 1,
    maxLength: 1000
  })

const Entries = (description: string, when: string): JsonSchema => list(oneOf(
  Pattern,
  object({
    permission: Pattern,
    when: optional(When(when)),
    reason: optional(Reason)
  })
), { description, minItems: 1, uniqueItems: true })

const resource = object(
  {
    description: optional(Description),
    actions: Names('What can be done with the resource', 1),
    scopes: optional(Names('Parts of the resource that can be granted separately', 1)),
    attributes: optional(
      record(
        ATTRIBUTE,
        oneOf(
          text({
            pattern: '^(text|number|boolean|list)$',
            expected: 'text, number, boolean, list (of texts), or a list of the only texts it can be'
          }),
          list(text(), { minItems: 1, uniqueItems: true })
        ),
        { description: 'What conditions may read of a resource, as resource.NAME', minProperties: 1 }
      )
    )
  }
)

const role = object(
  {
    description: optional(Description),
    inherits: optional(Names('Roles whose grants this role has too. Denies are not inherited', 1)),
    allow: optional(
      Entries('What the role may do, in every environment', 'The entry applies only when this holds')
    ),
    deny: optional(
      Entries(
        'What callers to whom this role is directly assigned may not do, whatever other roles allow',
        'The entry applies unless this is known not to hold'
      )
    )
  }
)

const environment = object(
  {
    description: optional(Description),
    aliases: optional(Names('Other names of the environment', 1)),
    deny: optional(
      list(
        object(
          {
            roles: Names('Directly assigned roles that are denied', 1),
            permissions: Patterns('What these roles may not do here', 1),
            when: optional(When('The entry applies unless this is known not to hold')),
            reason: optional(Reason)
          }
        ),
        { description: 'What roles may not do in this environment', minItems: 1 }
      )
    ),
    require: optional(
      list(
        object(
          {
            permissions: Patterns('The permissions that need more than a grant here', 1),
            roles: optional(Names('The caller must hold one of these roles, directly or through inheritance', 1)),
            when: optional(When('This must hold')),
            reason: optional(Reason)
          }
        ),
        {
          description: 'What this environment requires in addition to a grant; every given member must hold',
          minItems: 1
        }
      )
    )
  }
)

const service = object({
  description: optional(Description),
  may: optional(list(object({
    call: Name,
    permissions: Patterns('What the service may do while it calls that one', 1),
    when: optional(When('The entry applies only when this holds')),
    reason: optional(Reason)
  }), { description: 'The services it may call, and what it may do there', minItems: 1 }))
})

const separation = object({
  roles: Names('Roles of which a caller may hold only one', 2),
  reason: optional(Reason)
})

const named = (schema: JsonSchema, description: string): JsonSchema =>
  record(NAME, schema, { description, minProperties: 1 })

/**
 * The schema of a policy file. An unknown section is a mistake: a rule that is never read must not look
 * like one that is.
 */
export const policySchema: JsonSchema = object(
  {
    version: { type: 'number', const: 1, description: 'Version of this format' },
    resources: named(resource, 'What is protected, and what can be done with it'),
    roles: named(role, 'What the holders of each role may do'),
    environments: named(environment, 'Where the policy applies; an environment can only restrict what roles allow'),
    services: optional(named(service, 'What each service may do while it calls another one')),
    separation: optional(
      list(separation, {
        description: 'Separation of duty: a caller who holds two of the roles is denied everything that they give',
        minItems: 1
      })
    )
  }
)

/** Whether a value matches {@link policySchema}. Says nothing about what is wrong, so it is fast. */
export const isPolicyDocument: Matches = compileSchema(policySchema)

/** A policy file that matches {@link policySchema}. */
export interface PolicyDocument {
  readonly version: 1
  readonly resources: Readonly<Record<string, ResourceDocument>>
  readonly roles: Readonly<Record<string, RoleDocument>>
  readonly environments: Readonly<Record<string, EnvironmentDocument>>
  readonly services?: Readonly<Record<string, ServiceDocument>>
  readonly separation?: ReadonlyArray<{ readonly roles: readonly string[], readonly reason?: string }>
}

export interface ResourceDocument {
  readonly description?: string
  readonly actions: readonly string[]
  readonly scopes?: readonly string[]
  readonly attributes?: Readonly<Record<string, 'text' | 'number' | 'boolean' | 'list' | readonly string[]>>
}

export type EntryDocument = string | { readonly permission: string, readonly when?: string, readonly reason?: string }

export interface RoleDocument {
  readonly description?: string
  readonly inherits?: readonly string[]
  readonly allow?: readonly EntryDocument[]
  readonly deny?: readonly EntryDocument[]
}

export interface EnvironmentDocument {
  readonly description?: string
  readonly aliases?: readonly string[]
  readonly deny?: ReadonlyArray<{
    readonly roles: readonly string[]
    readonly permissions: readonly string[]
    readonly when?: string
    readonly reason?: string
  }>
  readonly require?: ReadonlyArray<{
    readonly permissions: readonly string[]
    readonly roles?: readonly string[]
    readonly when?: string
    readonly reason?: string
  }>
}

export interface ServiceDocument {
  readonly description?: string
  readonly may?: ReadonlyArray<{
    readonly call: string
    readonly permissions: readonly string[]
    readonly when?: string
    readonly reason?: string
  }>
}

/** The JSON Schema of policy files, for editors. */
export function policyJsonSchema (): Record<string, unknown> {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'RBAC policy',
    // `expected` holds words for our own messages only.
    ...withoutKeyword(policySchema, 'expected') as Record<string, unknown>
  }
}

/** Removes one keyword from a schema, at every level. */
export function withoutKeyword (value: unknown, keyword: string): unknown {
  if (Array.isArray(value)) return value.map(item => withoutKeyword(item, keyword))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== keyword)
      .map(([key, member]) => [key, withoutKeyword(member, keyword)])
  )
}
