import fc from 'fast-check'
import t from 'tap'
import { loadPolicy } from '@marty/rbac'
import { decideNaively, PERMISSIONS, randomPolicy, randomQuestion, write, type RandomPolicy } from './random-policy.js'

// The index, Casbin, the explanation and a naive evaluation of the policy must make the same decisions.

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
    const questions = fc.array(randomQuestion, { minLength: QUESTIONS, maxLength: QUESTIONS })
    await fc.assert(fc.asyncProperty(randomPolicy, questions, async (made, requests) => {
      const policy = await loadPolicy(write(made), 'random.yaml')
      if (depth(made) === 10) seen.tenLinks++
      if (made.denies.length > 0 && made.roles.some(({ deny }) => deny.length > 0)) seen.denies++
      if (made.requires.length > 0) seen.requirements++
      if (made.calls.length > 0) seen.calls++
      if (made.separation.length > 0) seen.separations++
      for (const [index, request] of requests.entries()) {
        const { roles, environment, attributes } = request
        const set = policy.roleSet(roles, attributes)
        const at = policy.environmentId(environment)!
        for (const permission of PERMISSIONS) {
          const expected = decideNaively(made, request, permission)
          const id = policy.permissionId(permission)!
          const answers = {
            index: policy.decideId(set, id, at, attributes),
            casbin: policy.decideByCasbin(roles, permission, environment, attributes),
            // An explanation is slower than all the others together, so only some decisions are explained.
            explained: index % 8 === 0 ? policy.explain(roles, permission, environment, attributes).allowed : expected
          }
          decisions++
          if (expected) allowed++
          if (Object.values(answers).some(answer => answer !== expected)) {
            const shown = JSON.stringify({ expected, ...answers })
            throw new Error(`${permission} for ${JSON.stringify(request)}: ${shown}\n${write(made)}`)
          }
          if (expected !== policy.decideId(set, id, at, {})) conditional++
        }
        if (roles.some(role => !policy.roles.some(({ name }) => name === role))) refused++
      }
    }), { numRuns: 10, seed: seed + round })
  }
  t.comment(`${decisions} decisions, ${allowed} allowed, ${conditional} because of attributes`)
  t.comment(`policies with ${JSON.stringify(seen)}`)
  t.ok(decisions >= WANTED)
  t.ok(allowed > decisions / 10 && allowed < decisions * 9 / 10, `${allowed} of ${decisions} allowed`)
  t.ok(conditional > decisions / 100, `${conditional} depended on attributes`)
  t.ok(refused > 0, 'some callers had names that the policy does not define as roles')
  for (const [what, policies] of Object.entries(seen)) t.ok(policies > 0, what)
})

/** The longest chain of links from one role to another. */
function depth ({ roles }: RandomPolicy): number {
  const below = new Map<number, number>()
  const of = (role: number): number => {
    let known = below.get(role)
    if (known === undefined) {
      known = Math.max(0, ...roles[role]!.inherits.map(parent => of(parent) + 1))
      below.set(role, known)
    }
    return known
  }
  return Math.max(...roles.map((_, role) => of(role)))
}
