// Writes what is generated from rbac_policies.yaml: its JSON Schema for editors and its names for the compiler.
import { readFileSync, writeFileSync } from 'node:fs'
import { loadPolicy, policyJsonSchema, policyTypes } from '@marty/rbac'

const here = name => new URL(name, import.meta.url)

const policy = await loadPolicy(readFileSync(here('rbac_policies.yaml'), 'utf8'), 'rbac_policies.yaml')
writeFileSync(here('rbac_policies.schema.json'), JSON.stringify(policyJsonSchema(), null, 2) + '\n')
writeFileSync(here('types.d.ts'), policyTypes(policy))
