import { readFileSync } from 'node:fs'
import { policyJsonSchema } from '@marty/rbac'

/** docs/reference/policy.md: keys and bounds come from the code, what they mean together is written here. */
export function policyReference () {
  const { properties, required } = policyJsonSchema()
  return `# The policy file

One YAML file says who may do what. This is every key of it, and what it means. The way through is [Authorise your callers](../guides/authorization.md).

An unknown key is a mistake, never ignored. Mistakes are told together, each with file, line and column; at most 100, with the number of the others. A text that does not end with a line break is refused: it may have been cut off while it was written. Put a condition in quotes when it holds \`[ ] { } , #\` or a colon. For your editor: \`# yaml-language-server: $schema=./rbac_policies.schema.json\`, the file that stands beside [policies/rbac_policies.yaml](../../policies/rbac_policies.yaml).

## Sections

| Section | Type | Meaning |
|---|---|---|
${Object.entries(properties).map(([name, schema]) => row(name, schema, required)).join('\n')}

${Object.entries(properties).flatMap(([name, schema]) => tables(name, schema)).join('\n\n')}

Names are small letters, digits, \`_\` and \`-\`, beginning with a letter; \`constructor\`, \`prototype\`, \`null\`, \`true\` and \`false\` are none. Names of attributes may have capitals. No list or map is empty, and no list of names or patterns says the same twice: leave out what you do not need.

## How a decision is made

1. The default is to deny.
2. The rules that speak of the caller, the permission and the environment are looked up.
3. If a deny among them applies, the answer is no, whatever allows it.
4. Otherwise, if an allow applies, the answer is yes.

The order of rules, roles and sections in the file has no meaning.

| Rule | Speaks of | Applies when its condition is |
|---|---|---|
| \`allow\` of a role | callers who hold the role, itself or through inheritance | true, or there is none |
| \`deny\` of a role | callers to whom that role is directly assigned | not false, or there is none |
| \`deny\` of an environment | the same, in that environment | not false, or there is none |
| \`require\` of an environment | callers without any of its \`roles\`; with \`when\`, everybody for whom it is not true | |
| \`may\` of a service | that service, while it calls the other one | true, or there is none |
| \`separation\` | callers who hold two of its roles, itself or through inheritance | |

- **Several roles** are judged together: what one allows is allowed, what one denies is denied. A role that the policy does not know counts for nothing.
- **Inheritance** passes on allows, never denies. A role may inherit several others, but not in a circle.
- **Environments** only narrow. \`deny\` takes away from roles; \`require\` asks everybody for something besides the grant, and grants nothing itself. Of \`roles\` one is enough; with \`roles\` and \`when\`, both must hold.
- **Services**: a principal of kind \`service\` whose \`id\` is a name under \`services\` may do what \`may\` lists while it calls the service that \`call\` names: the one whose plugin has this name as its option \`service\`. What its roles allow, it may besides. No role makes its holder a service.
- **Separation**: who holds two of the roles is denied what any of them gives, by itself or through inheritance, and passes no \`roles\` rule. A role that always holds two of them is a mistake.

## Permissions and wildcards

A permission is \`resource:action\`, the resource as a whole, or \`resource:scope:action\`, a part of it. Each resource has every one of its actions as a whole and in each of its scopes.

| Written | Means in a rule |
|---|---|
| \`logs:read\` | short for \`logs:*:read\` |
| \`logs:security:read\` | that scope alone |
| \`logs:*:*\` | every action, in whatever scope |
| \`*:read\` | the action \`read\` of every resource that has it |
| \`*:*\` | everything |

\`*\` stands for one whole segment; nothing else is a wildcard. A pattern that speaks of nothing is a mistake.

Who asks for \`logs:read\` asks for every scope: an allow of \`logs:security:read\` is not enough, a deny of it is. A route, \`can\` and a filter name one permission, without \`*\`.

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

Blanks and ends of lines between the parts have no meaning. Keywords are small: \`and\`, \`or\`, \`not\`, \`in\`, \`true\`, \`false\`. A comparison has an attribute on one side at least, and is not followed by another one.

| Attribute | Type |
|---|---|
| \`principal.id\` | text |
| \`principal.kind\` | \`user\`, \`service\`, \`key\` or \`anonymous\` |
| \`principal.roles\` | list of roles of the policy, as directly assigned |
| \`principal.scopes\` | list of texts |
| \`principal.claims.NAME\`, and deeper | whatever the credential says |
| \`resource.NAME\` | as the resource declares it |
| \`environment\` | an environment of the policy, or an alias of one |
| \`time\` | only as \`time in "…"\` |

Types, names and choices are checked when the file is read: \`<\` and its kin compare numbers, \`==\` and \`!=\` two values of one type, \`in\` a value with a list, whose items are of one type. A rule may ask about the attributes that the resources of its patterns declare.

### What is unknown

A comparison is true, false or unknown: unknown when an attribute is missing or of another type. An unknown comparison makes \`and\` and \`or\` unknown unless the other side decides alone.

| \`a\` | \`b\` | \`not a\` | \`a and b\` | \`a or b\` |
|---|---|---|---|---|
| unknown | true | unknown | unknown | true |
| unknown | false | unknown | false | unknown |
| unknown | unknown | unknown | unknown | unknown |

An allow needs true, a deny stands unless false. So what is not known never opens anything: \`resource.owner != "ada"\` does not hold for a resource without an owner.

### Time

\`\`\`ebnf
window = ( days " " span | days | span ) " " zone ;
days   = part { "," part } ;
part   = day [ "-" day ] ;
day    = "Mon" | "Tue" | "Wed" | "Thu" | "Fri" | "Sat" | "Sun" ;
span   = hour ":" minute "-" hour ":" minute ;
zone   = "UTC" | (* IANA name with a "/", such as Europe/Berlin *) ;
\`\`\`

One blank stands between the parts. Hours are wall-clock time of the zone, two digits each, so they follow summer time. The first minute is inside, the last one outside; \`24:00\` is an end. A span that ends before it begins runs past midnight and belongs to the day it begins on; \`Fri-Mon\` runs past Sunday.

## Bounds

| What | At most |
|---|---|
| the file | ${bound('parse/policy', 'MAX_FILE_BYTES')} bytes |
| permissions: of every resource, actions × (scopes + 1) | ${bound('parse/policy', 'MAX_PERMISSIONS')} |
| roles | ${bound('parse/policy', 'MAX_ROLES')} |
| roles that a role inherits over, one behind the other | ${bound('model/role-graph', 'MAX_DEPTH')} |
| ways in which a role inherits | ${bound('model/role-graph', 'MAX_WAYS')} |
| a condition | ${count(conditionSchema().maxLength)} characters, ${bound('conditions/syntax', 'MAX_DEPTH')} levels deep |

One YAML 1.2 document, without aliases, tags of your own, duplicate keys, or the keys \`__proto__\`, \`constructor\` and \`prototype\`.

## Policy tests

A second file says what the policy must answer. \`marty policy test\` runs it, the option \`policyTests\` refuses a policy that fails it.

\`\`\`yaml
version: 1
principals:
  ada: { roles: [author], kind: user, id: ada }
  nobody: { roles: [] }
tests:
  - name: authors edit their own articles
    principals: [ada]
    environments: [production]
    resource: { author: ada }
    time: '2025-01-31T10:00Z'
    allow: ['article:edit']
  - name: without a role there is nothing
    principals: [nobody]
    deny: ['*:*']
\`\`\`

| Key of a principal | Meaning |
|---|---|
| \`roles\`, required | directly assigned roles; may be empty |
| \`kind\`, \`id\`, \`scopes\`, \`claims\` | what conditions and service rules ask about |

| Key of a test | Meaning |
|---|---|
| \`name\`, required | told when it fails |
| \`principals\`, required | who asks: names from above |
| \`environments\` | where; every environment when left out |
| \`service\` | which service is asked |
| \`resource\` | its attributes |
| \`time\` | the moment, with its offset; without it, time is unknown |
| \`allow\` | patterns whose permissions must all be allowed |
| \`deny\` | patterns whose permissions must all be denied |
| \`only\` | patterns whose permissions must be allowed while every other permission of the policy is denied |

A test needs one of \`allow\`, \`deny\` and \`only\`. Every principal is asked every permission in every environment. A rule that applied to none of the questions is not covered: nobody would notice if it went.
`
}

function tables (name, schema) {
  const item = itemOf(schema)
  if (item.properties === undefined) return []
  const path = schema.items === undefined ? `${name}.NAME` : `${name}[]`
  const nested = Object.entries(item.properties).flatMap(([key, member]) => tables(`${path}.${key}`, member))
  return [`### ${path}

| Key | Type | Meaning |
|---|---|---|
${Object.entries(item.properties).map(([key, member]) => row(key, member, item.required, path)).join('\n')}`, ...nested]
}

/** Where the schema says nothing. */
const MEANINGS = {
  'roles.NAME.allow[].permission': 'What the entry speaks of',
  'roles.NAME.deny[].permission': 'What the entry speaks of',
  'services.NAME.may[].call': 'The service it calls'
}

function row (key, schema, required = [], path = '') {
  return `| \`${key}\`${required.includes(key) ? ', required' : ''} | ${typeOf(schema)} | ${MEANINGS[`${path}.${key}`] ?? schema.description} |`
}

/** What is inside a list or a map; of a choice, the one with keys. */
function itemOf ({ items, patternProperties, ...schema }) {
  const inside = items ?? (patternProperties === undefined ? schema : Object.values(patternProperties)[0])
  return inside.anyOf?.find(({ properties }) => properties !== undefined) ?? inside
}

function typeOf ({ const: only, type, items, minItems = 1, patternProperties, anyOf, pattern = '', maxLength, properties }) {
  if (only !== undefined) return `\`${JSON.stringify(only)}\``
  if (anyOf !== undefined) return anyOf.map(typeOf).join(', or ')
  if (items !== undefined) return `list of ${minItems > 1 ? `at least ${minItems} ` : ''}${typeOf(items).replace(/^(name|pattern|text)\b/, '$1s')}`
  if (patternProperties !== undefined) return `map by name: ${typeOf(Object.values(patternProperties)[0])}`
  if (properties !== undefined) return 'keys as below'
  if (pattern.includes(':')) return 'pattern'
  if (pattern.startsWith('^(?!')) return 'name'
  const choices = /^\^\((.*)\)\$$/.exec(pattern)
  if (choices !== null) return choices[1].split('|').map(choice => `\`${choice}\``).join(', ')
  return type === 'string' ? maxLength === undefined ? 'text' : 'condition' : type
}

function conditionSchema () {
  return itemOf(itemOf(policyJsonSchema().properties.roles).properties.allow).properties.when
}

/** A bound as the code has it. */
function bound (file, name) {
  const source = readFileSync(new URL(`../packages/rbac/src/${file}.ts`, import.meta.url), 'utf8')
  return count(Number(new RegExp(`const ${name} = ([\\d_]+)$`, 'm').exec(source)[1].replaceAll('_', '')))
}

function count (number) {
  return number.toLocaleString('en')
}
