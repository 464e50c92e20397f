import t from 'tap'
import { nodeVersionProblem } from '../src/node-version.mjs'
import { runSetup } from './run-setup.mjs'
import { makeMiniature } from './miniature.mjs'

const PRETEND = 'data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"20.18.3"}})'

t.test('an older Node is told what is needed, before anything is touched', async (t) => {
  const root = makeMiniature(t)
  const result = await runSetup(root, ['--for', 'start'], { nodeArgs: ['--import', PRETEND] })
  t.equal(result.code, 1)
  t.match(result.stderr, 'MARTY_SETUP_NODE_TOO_OLD: Node 20.18.3 is too old: this project needs Node >= 20.19.0.')
  t.match(result.stderr, 'Install a newer one')
  t.equal(result.stdout, '')
})

t.test('with --json it is told as JSON too', async (t) => {
  const root = makeMiniature(t)
  const result = await runSetup(root, ['--json'], { nodeArgs: ['--import', PRETEND] })
  t.equal(result.code, 1)
  t.match(JSON.parse(result.stdout), { ok: false, error: { code: 'MARTY_SETUP_NODE_TOO_OLD' } })
})

t.test('the bound itself and everything newer is accepted', async (t) => {
  t.equal(nodeVersionProblem('20.19.0'), undefined)
  t.equal(nodeVersionProblem('24.0.0'), undefined)
  t.match(nodeVersionProblem('18.20.8'), { code: 'MARTY_SETUP_NODE_TOO_OLD' })
})
