import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { load } from 'js-yaml'
import fc from 'fast-check'
import t from 'tap'
import { Value } from 'typebox/value'
import { compileSchema, list, object, optional, record, text } from '../dist/parse/json-schema.js'
import { isPolicyDocument, policySchema } from '../dist/parse/schema.js'

const POLICY = load(readFileSync(join(import.meta.dirname, '../../../policies/rbac_policies.yaml'), 'utf8'))

t.test('the fast check of a policy agrees with TypeBox, on valid and on damaged policies', async t => {
  t.equal(isPolicyDocument(POLICY), true)
  const seen = { valid: 0, damaged: 0 }
  const leaf = fc.oneof(
    fc.constantFrom<unknown>('camera:view', 'doc', '*', '', 'A', 'a\nb', 1, 2, true, null, [], {}, ['a', 'a'], [{ permission: '*' }]),
    fc.constant({ permission: 'a:b', when: 'x'.repeat(1001) }),
    fc.jsonValue({ maxDepth: 2 })
  )
  await fc.assert(fc.asyncProperty(fc.infiniteStream(fc.nat()), leaf, fc.string(), async (choices, value, name) => {
    const damaged = damage(POLICY, () => choices.next().value!, value, name)
    const isValid = isPolicyDocument(damaged)
    seen[isValid ? 'valid' : 'damaged']++
    return isValid === Value.Check(policySchema, damaged)
  }), { numRuns: 1500, interruptAfterTimeLimit: 20_000 })
  t.ok(seen.valid > 20 && seen.damaged > 100, JSON.stringify(seen))
})

/** Replaces, adds or removes one member somewhere in a document. */
function damage (node: unknown, choose: () => number, value: unknown, name: string): unknown {
  if (typeof node !== 'object' || node === null) return value
  const entries = Object.entries(node)
  const at = choose() % (entries.length + 2)
  if (at === entries.length) return Array.isArray(node) ? [...node, value] : { ...node, [name]: value }
  if (at > entries.length) {
    return Array.isArray(node) ? node.slice(1) : Object.fromEntries(entries.slice(choose() % (entries.length + 1)))
  }
  const [key, member] = entries[at]!
  const changed = damage(member, choose, value, name)
  if (Array.isArray(node)) return node.map((item, index) => String(index) === key ? changed : item)
  return { ...node, [key]: changed }
}

t.test('every keyword refuses what it should, and an unknown keyword is an error', async t => {
  const schema = object({
    name: text({ pattern: '^a', minLength: 2, maxLength: 3 }),
    tags: optional(list(text(), { minItems: 1, maxItems: 2, uniqueItems: true })),
    kind: optional({ enum: ['x', 'y'] }),
    more: optional(record('^m', { type: 'number' }, { minProperties: 1 }))
  })
  const matches = compileSchema(schema)
  const valid = [{ name: 'ab' }, { name: 'ab', tags: ['1', '2'] }, { name: 'a😀b', kind: 'x', more: { m: 1 } }]
  for (const value of valid) t.ok(matches(value), JSON.stringify(value))
  const invalid = [
    undefined,
    null,
    [],
    {},
    { name: 1 },
    { name: 'a' },
    { name: 'abcd' },
    { name: 'bb' },
    { name: 'ab', extra: 1 },
    { name: 'ab', tags: [] },
    { name: 'ab', tags: ['1', '2', '3'] },
    { name: 'ab', tags: ['1', '1'] },
    { name: 'ab', tags: [1] },
    { name: 'ab', kind: 'z' },
    { name: 'ab', more: {} },
    { name: 'ab', more: { n: 1 } },
    { name: 'ab', more: { m: NaN } }
  ]
  for (const value of invalid) {
    t.notOk(matches(value), JSON.stringify(value))
    t.equal(Value.Check(schema, value), false, 'and so does TypeBox')
  }
  t.throws(() => compileSchema({ type: 'number', minimum: 1 }), /"minimum" of a JSON Schema is not known/)
})
