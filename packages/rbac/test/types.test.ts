import t from 'tap'
import type { SecurityRule } from '@marty/core'
import { loadPolicy, type Permission } from '@marty/rbac'
import { POLICY } from './policy-text.js'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false

t.test('rules and permissions are typed', async t => {
  const open: Equal<Permission, string> = true
  const rule: SecurityRule = { permission: 'camera:view', roles: ['viewer'] }
  // @ts-expect-error a permission is a text
  const wrong: SecurityRule = { permission: 5 }
  const policy = await loadPolicy(POLICY, 'p.yaml')
  // @ts-expect-error a policy cannot be changed
  t.throws(() => { policy.file = 'other' }, TypeError)
  t.ok(open)
  t.not(rule.permission, wrong.permission)
})
