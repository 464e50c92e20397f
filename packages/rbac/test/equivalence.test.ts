import fc from 'fast-check'
import t from 'tap'
import { loadPolicy } from '@marty/rbac'
import { decideNaively, PERMISSIONS, randomPolicy, randomQuestion, write, type RandomPolicy } from './random-policy.js'

// Four answers to every question must agree: the index asked by ids, Casbin, the explanation, and the policy read naively.

const WANTED = Number(process.env.MARTY_EQUIVALENCE_DECISIONS ?? 60_000)
const QUESTIONS = 40

t.setTimeout(120_000 + WANTED)

t.test(`index, Casbin, explanation and definition agree on ${WANTED} random decisions`, async t => {
  let decisions = 0
  let allowed = 0
  let conditional = 0
  let refused = 0
  const seen = { tenLinks: 0, denies: 0, requirements: 0, calls: 0, separations: 0 }
  const seed = Number(process.env.MARTY_EQUIVALENCE_SEED ?? Date.now() % 0x7FFFFFFF)
  t.comment(`seed ${seed}`)
  for (let round = 0; decisions < WANTED; round++) {
    await fc.assert(fc.asyncProperty(randomPolicy, fc.array(randomQuestion, { minLength: QUESTIONS, maxLength: QUESTIONS }), async (made, asked) => {
      const policy = await loadPolicy(write(made), 'random.yaml')
      if (depth(made) === 10) seen.tenLinks++
      if (made.denies.length > 0 && made.roles.some(({ deny }) => deny.length > 0)) seen.denies++
      if (made.requires.length > 0) seen.requirements++
      if (made.calls.length > 0) seen.calls++
      if (made.separation.length > 0) seen.separations++
      for (const [index, question] of asked.entries()) {
        const { roles, environment, attributes } = question
        const set = policy.roleSet(roles, attributes)
        const at = policy.environmentId(environment)!
        for (const permission of PERMISSIONS) {
          const answers = {
            meant: decideNaively(made, question, permission),
            index: policy.decideId(set, policy.permissionId(permission)!, at, attributes),
            casbin: policy.decideByCasbin(roles, permission, environment, attributes),
            // Slower than all the rest together, so that it is asked about some only.
            explained: index % 8 === 0 ? policy.explain(roles, permission, environment, attributes).allowed : null
          }
          decisions++
          if (answers.meant) allowed++
          if (answers.index !== answers.meant || answers.casbin !== answers.meant || (answers.explained ?? answers.meant) !== answers.meant) {
            throw new Error(`${permission} for ${JSON.stringify(question)}: ${JSON.stringify(answers)}\n${write(made)}`)
          }
          if (answers.meant !== policy.decideId(set, policy.permissionId(permission)!, at, {})) conditional++
        }
        if (roles.some(role => !policy.roles.some(({ name }) => name === role))) refused++
      }
    }), { numRuns: 10, seed: seed + round })
  }
  t.comment(`${decisions} decisions, ${allowed} allowed, ${conditional} because of attributes; policies with ${JSON.stringify(seen)}`)
  t.ok(decisions >= WANTED)
  t.ok(allowed > decisions / 10 && allowed < decisions * 9 / 10, `${allowed} of ${decisions} allowed`)
  t.ok(conditional > decisions / 100, `${conditional} hung on attributes`)
  t.ok(refused > 0, 'some callers held names that are nobody\'s')
  for (const [what, policies] of Object.entries(seen)) t.ok(policies > 0, what)
})

/** The longest chain of links from one role to another. */
function depth ({ roles }: RandomPolicy): number {
  const below = new Map<number, number>()
  const of = (role: number): number => {
    let known = below.get(role)
    if (known === undefined) below.set(role, known = Math.max(0, ...roles[role]!.inherits.map(parent => of(parent) + 1)))
    return known
  }
  return Math.max(...roles.map((_, role) => of(role)))
}
