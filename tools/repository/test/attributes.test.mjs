import { execFileSync } from 'node:child_process'
import t from 'tap'
import { root } from './files.mjs'

// Only a part of a README is generated (a program, an option table), so its changes are reviewed like any other text.
const isPartlyGenerated = file => file.endsWith('/README.md')

const generated = [...listed('docs/generate.mjs'), ...listed('policies/generate.mjs')]

t.test('every file that `npm run generate` writes completely is marked as generated', async t => {
  t.ok(generated.includes('docs/reference/errors.md') && generated.includes('policies/types.d.ts'))
  for (const file of generated) {
    t.equal(attribute('linguist-generated', file), isPartlyGenerated(file) ? 'unspecified' : 'set', file)
  }
})

t.test('no other file is marked', async t => {
  const marked = git('ls-files', '-z', '--', ':(attr:linguist-generated)').split('\0').filter(Boolean)
  t.strictSame(marked.sort(), [...generated.filter(file => !isPartlyGenerated(file)), 'package-lock.json'].sort())
})

t.test('lines of text files end with LF everywhere, and pictures are not changed', async t => {
  t.equal(attribute('eol', 'README.md'), 'lf')
  t.equal(attribute('binary', 'docs/page.png'), 'set')
  t.equal(attribute('text', 'docs/page.png'), 'unset')
})

function listed (generator) {
  const output = execFileSync(process.execPath, [generator, '--list'], { cwd: root, encoding: 'utf8' })
  return output.trimEnd().split('\n')
}

function attribute (name, file) {
  return git('check-attr', '-z', name, '--', file).split('\0')[2]
}

function git (...args) {
  // In a container the files often belong to another user.
  return execFileSync('git', ['-c', 'safe.directory=*', ...args], { cwd: root, encoding: 'utf8' })
}
