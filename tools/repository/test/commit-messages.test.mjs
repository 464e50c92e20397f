import { spawnSync } from 'node:child_process'
import t from 'tap'
import { root } from './files.mjs'

const refused = {
  'no type': ['camera list is sorted', 'type-empty'],
  'an unknown type': ['feature(core): sort cameras', 'type-enum'],
  'no subject': ['fix(core):', 'subject-empty'],
  'a subject of 73 characters': [`fix(core): ${'x'.repeat(62)}`, 'header-max-length'],
  'a full stop': ['fix(core): sort cameras.', 'subject-full-stop'],
  'no empty line before the body': ['fix(core): sort cameras\nbecause', 'body-leading-blank'],
  'two scopes': ['fix(core,rbac): sort cameras', 'one-topic'],
  'two changes, joined by a semicolon': ['fix(core): sort cameras; read files once', 'one-topic'],
  'two changes of two types': ['fix(core): sort cameras, feat(cli): print them', 'one-topic']
}

const accepted = {
  'a type and a subject': 'docs: say how releases are made',
  'a scope': 'fix(rate-limit): count a refused request once',
  'a change that breaks users': 'feat(auth)!: name lifetimes in seconds',
  'a subject of 72 characters': `fix(core): ${'x'.repeat(61)}`,
  'a capital in the subject': 'feat(auth): OIDC discovery',
  'a body with long lines': `perf: cache rules\n\n${'because '.repeat(40)}`,
  'a merge': 'Merge branch \'main\' into faster'
}

for (const [name, [message, rule]] of Object.entries(refused)) {
  t.test(`refused: ${name}`, async t => {
    const { status, stdout, stderr } = check(message)
    t.equal(status, 1, stderr)
    t.match(stdout, `[${rule}]`)
  })
}

for (const [name, message] of Object.entries(accepted)) {
  t.test(`accepted: ${name}`, async t => {
    const { status, stdout, stderr } = check(message)
    t.equal(status, 0, stdout + stderr)
  })
}

function check (message) {
  return spawnSync(process.execPath, ['node_modules/@commitlint/cli/cli.js'], { cwd: root, input: message, encoding: 'utf8' })
}
