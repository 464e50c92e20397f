// Generates two files from rbac_policies.yaml: its JSON Schema for editors and its names for the compiler. With --list,
// it only names the files.
import { readFileSync, writeFileSync } from 'node:fs'
import { loadPolicy, policyJsonSchema, policyTypes } from '@marty/rbac'

const here = name => new URL(name, import.meta.url)

const policy = await loadPolicy(readFileSync(here('rbac_policies.yaml'), 'utf8'), 'rbac_policies.yaml')
const files = {
  'rbac_policies.schema.json': JSON.stringify(policyJsonSchema(), null, 2) + '\n',
  'types.d.ts': policyTypes(policy)
}
for (const [name, text] of Object.entries(files)) {
  if (process.argv.includes('--list')) process.stdout.write(`policies/${name}\n`)
  else writeFileSync(here(name), text)
}
