import { readFileSync } from 'node:fs'
import { policyJsonSchema } from '@marty/rbac'

/** docs/reference/policy.md: keys and bounds come from the code, explanations are written here. */
export function policyReference () {
  const { properties, required } = policyJsonSchema()
  return `# The policy file

One YAML file defines which callers may do what. This page describes every key. For a walkthrough, read [Authorize your callers](../guides/authorization.md).

An unknown key is a mistake and never ignored. All mistakes are reported together, each with file, line and column: at most 100, then the number of further mistakes. A file that does not end with a line break is refused, because it may have been cut off while it was written. Put a condition in quotes when it contains one of \`[ ] { } , #\` or a colon. For completion in your editor, add \`# yaml-language-server: $schema=./rbac_policies.schema.json\`; the schema is beside [policies/rbac_policies.yaml](../../policies/rbac_policies.yaml).

## Sections

| Section | Type | Meaning |
|---|---|---|
${Object.entries(properties)
  .map(([name, schema]) => row(name, schema, required))
  .join('\n')}

${Object.entries(properties)
  .flatMap(([name, schema]) => tables(name, schema))
  .join('\n\n')}

Names consist of lower-case letters, digits, \`_\` and \`-\`, and begin with a letter; \`constructor\`, \`prototype\`, \`null\`, \`true\` and \`false\` are not allowed. Names of attributes may contain capital letters. Lists and maps must not be empty: leave out what you do not need. A list of names or patterns must not contain duplicates.

## How a decision is made

1. The default is to deny.
2. The rules that match the caller, the permission and the environment are looked up.
3. If one of them is a deny that applies, the decision is deny, whatever allows it.
4. Otherwise, if an allow applies, the decision is allow.

The order of rules, roles and sections in the file does not matter.

| Rule | Matches | Applies when its condition is |
|---|---|---|
| \`allow\` of a role | callers who hold the role, directly or through inheritance | true, or there is none |
| \`deny\` of a role | callers to whom the role is directly assigned | not false, or there is none |
| \`deny\` of an environment | the same, in that environment | not false, or there is none |
| \`require\` of an environment | callers with none of its \`roles\`; with \`when\`, also every caller for whom the condition is not true | always: it denies |
| \`may\` of a service | that service, while it calls the other one | true, or there is none |
| \`separation\` | callers who hold two of its roles, directly or through inheritance | always: it denies |

- **Several roles** count together: what one allows is allowed, and what one denies is denied. A role that the policy does not define has no effect.
- **Inheritance** passes on allows, never denies. A role may inherit several others, but not in a circle.
- **Environments** only restrict. \`deny\` removes permissions from roles; \`require\` adds a requirement for every caller, in addition to the grant, and grants nothing itself. One of \`roles\` is enough; with \`roles\` and \`when\`, both must hold.
- **Services**: a principal of kind \`service\` whose \`id\` is a name under \`services\` may do what \`may\` lists while it calls the service that \`call\` names: the one whose plugin has this name as its option \`service\`. It may also do what its roles allow. No role makes a caller a service.
- **Separation**: a caller who holds two of the roles is denied everything that any of them gives, directly or through inheritance, and passes no \`roles\` rule at all. A role that inherits two of them is a mistake.

## Permissions and wildcards

A permission is \`resource:action\` for the resource as a whole, or \`resource:scope:action\` for a part of it. Each action of a resource exists for the whole and for each scope.

| Written | Means in a rule |
|---|---|
| \`logs:read\` | short for \`logs:*:read\` |
| \`logs:security:read\` | only that scope |
| \`logs:*:*\` | every action in every scope |
| \`*:read\` | the action \`read\` of every resource that has it |
| \`*:*\` | everything |

\`*\` stands for one whole segment; there are no other wildcards. A pattern that matches no permission is a mistake.

A request for \`logs:read\` is a request for every scope: an allow of \`logs:security:read\` alone does not allow it, and a deny of that scope denies it. Routes, \`can\` and filters name one permission, without \`*\`.

## Conditions

\`\`\`ebnf
condition   = conjunction { "or" conjunction } ;
conjunction = negation { "and" negation } ;
negation    = "not" negation | "(" condition ")" | comparison ;
comparison  = operand ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" ) operand ;
operand     = attribute | literal | "[" literal { "," literal } "]" ;
literal     = text | number | "true" | "false" ;
text        = '"' { character } '"' | "'" { character } "'" ;   (* \\ before the quote or another \\ *)
number      = [ "-" ] digit { digit } [ "." digit { digit } ] ;
attribute   = word { "." word } ;
word        = ( letter | "_" ) { letter | digit | "_" | "-" } ;
\`\`\`

White space between the parts does not matter. Keywords are lower-case: \`and\`, \`or\`, \`not\`, \`in\`, \`true\`, \`false\`. At least one side of a comparison is an attribute. Comparisons cannot be chained (\`a < b < c\`).

| Attribute | Type |
|---|---|
| \`principal.id\` | text |
| \`principal.kind\` | \`user\`, \`service\`, \`key\` or \`anonymous\` |
| \`principal.roles\` | list of the caller's directly assigned roles |
| \`principal.scopes\` | list of texts |
| \`principal.claims.NAME\`, and deeper | any; as in the credential |
| \`resource.NAME\` | as the resource declares it |
| \`environment\` | an environment of the policy, or an alias of one |
| \`time\` | only as \`time in "…"\` |

Types, names and choices are checked when the file is read: \`<\`, \`<=\`, \`>\` and \`>=\` compare numbers, \`==\` and \`!=\` compare two values of the same type, and \`in\` looks for a value in a list of items of one type. A condition may read the attributes that the resources of its rule's patterns declare.

### Unknown values

A comparison is true, false or unknown. It is unknown when an attribute is missing or of another type. \`and\` and \`or\` with an unknown side are unknown, unless the other side alone determines the result.

| \`a\` | \`b\` | \`not a\` | \`a and b\` | \`a or b\` |
|---|---|---|---|---|
| unknown | true | unknown | unknown | true |
| unknown | false | unknown | false | unknown |
| unknown | unknown | unknown | unknown | unknown |

An allow applies only if its condition is true; a deny applies unless its condition is false. So a missing value never grants access: \`resource.owner != "ada"\` is not true for a resource without an owner.

### Time

\`\`\`ebnf
window = ( days " " span | days | span ) " " zone ;
days   = part { "," part } ;
part   = day [ "-" day ] ;
day    = "Mon" | "Tue" | "Wed" | "Thu" | "Fri" | "Sat" | "Sun" ;
span   = hour ":" minute "-" hour ":" minute ;
zone   = "UTC" | (* IANA name with a "/", such as Europe/Berlin *) ;
\`\`\`

One space separates the parts. Hours and minutes have two digits and are wall-clock time of the zone, so they follow daylight saving time. The start is inclusive and the end exclusive; an end may be \`24:00\`. A span that ends before it begins runs past midnight and belongs to the day on which it begins; \`Fri-Mon\` runs past Sunday.

## Limits

| | At most |
|---|---|
| the file | ${bound('parse/policy', 'MAX_FILE_BYTES')} bytes |
| permissions: actions × (scopes + 1), of all resources together | ${bound('parse/policy', 'MAX_PERMISSIONS')} |
| roles | ${bound('parse/policy', 'MAX_ROLES')} |
| roles in one chain of inheritance | ${bound('model/role-graph', 'MAX_DEPTH')} |
| paths of inheritance from one role | ${bound('model/role-graph', 'MAX_WAYS')} |
| a condition | ${count(conditionSchema().maxLength)} characters, ${bound('conditions/syntax', 'MAX_DEPTH')} levels of nesting |

The file is one YAML 1.2 document without aliases, custom tags, duplicate keys, or the keys \`__proto__\`, \`constructor\` and \`prototype\`.

## Policy tests

A second file states the decisions that you expect. \`marty policy test\` runs it; with the option \`policyTests\`, the service refuses a policy that fails it.

\`\`\`yaml
version: 1
principals:
  ada: { roles: [author], kind: user, id: ada }
  guest: { roles: [] }
tests:
  - name: authors edit their own articles
    principals: [ada]
    environments: [production]
    resource: { author: ada }
    time: '2025-01-31T10:00Z'
    allow: ['article:edit']
  - name: without a role, nothing is allowed
    principals: [guest]
    deny: ['*:*']
\`\`\`

| Key of a principal | Meaning |
|---|---|
| \`roles\`, required | directly assigned roles; may be empty |
| \`kind\`, \`id\`, \`scopes\`, \`claims\` | what conditions and rules for services read |

| Key of a test | Meaning |
|---|---|
| \`name\`, required | shown when the test fails |
| \`principals\`, required | the callers: names from \`principals\` above |
| \`environments\` | the environments. Default: every environment |
| \`service\` | the service that is called |
| \`resource\` | the attributes of the resource |
| \`time\` | the time, with its UTC offset. Default: the time is unknown |
| \`allow\` | patterns whose permissions must all be allowed |
| \`deny\` | patterns whose permissions must all be denied |
| \`only\` | patterns whose permissions must be allowed while every other permission of the policy is denied |

A test needs at least one of \`allow\`, \`deny\` and \`only\`. It checks every combination of its principals, permissions and environments. A rule that applied to none of these decisions is reported as not covered: no test would fail if it were removed.
`
}

function tables (name, schema) {
  const item = itemOf(schema)
  if (item.properties === undefined) return []
  const path = schema.items === undefined ? `${name}.NAME` : `${name}[]`
  const nested = Object.entries(item.properties).flatMap(([key, member]) => tables(`${path}.${key}`, member))
  return [
    `### ${path}

| Key | Type | Meaning |
|---|---|---|
${Object.entries(item.properties)
  .map(([key, member]) => row(key, member, item.required, path))
  .join('\n')}`,
    ...nested
  ]
}

/** The meanings of keys that have no description in the schema. */
const MEANINGS = {
  'roles.NAME.allow[].permission': 'The permissions that the entry allows',
  'roles.NAME.deny[].permission': 'The permissions that the entry denies',
  'services.NAME.may[].call': 'The service it calls'
}

function row (key, schema, required = [], path = '') {
  return `| \`${key}\`${required.includes(key) ? ', required' : ''} | ${typeOf(schema)} | ${MEANINGS[`${path}.${key}`] ?? schema.description} |`
}

/** The schema of the items of a list or of the values of a map. Of several alternatives, the one with keys. */
function itemOf ({ items, patternProperties, ...schema }) {
  const inside = items ?? (patternProperties === undefined ? schema : Object.values(patternProperties)[0])
  return inside.anyOf?.find(({ properties }) => properties !== undefined) ?? inside
}

function typeOf ({
  const: only,
  type,
  items,
  minItems = 1,
  patternProperties,
  anyOf,
  pattern = '',
  maxLength,
  properties
}) {
  if (only !== undefined) return `\`${JSON.stringify(only)}\``
  if (anyOf !== undefined) return anyOf.map(typeOf).join(', or ')
  if (items !== undefined) { return `list of ${minItems > 1 ? `at least ${minItems} ` : ''}${typeOf(items).replace(/^(name|pattern|text)\b/, '$1s')}` }
  if (patternProperties !== undefined) return `map by name: ${typeOf(Object.values(patternProperties)[0])}`
  if (properties !== undefined) return 'keys as below'
  if (pattern.includes(':')) return 'pattern'
  if (pattern.startsWith('^(?!')) return 'name'
  const choices = /^\^\((.*)\)\$$/.exec(pattern)
  if (choices !== null) {
    return choices[1]
      .split('|')
      .map(choice => `\`${choice}\``)
      .join(', ')
  }
  if (type !== 'string') return type
  return maxLength === undefined ? 'text' : 'condition'
}

function conditionSchema () {
  return itemOf(itemOf(policyJsonSchema().properties.roles).properties.allow).properties.when
}

/** Reads a limit from the source code. */
function bound (file, name) {
  const source = readFileSync(new URL(`../packages/rbac/src/${file}.ts`, import.meta.url), 'utf8')
  return count(Number(new RegExp(`const ${name} = ([\\d_]+)$`, 'm').exec(source)[1].replaceAll('_', '')))
}

function count (number) {
  return number.toLocaleString('en')
}
