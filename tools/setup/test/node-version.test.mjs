import t from 'tap'
import { nodeVersionProblem } from '../src/node-version.mjs'
import { runSetup } from './run-setup.mjs'
import { makeMiniature } from './miniature.mjs'

const PRETEND = 'data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"20.18.3"}})'

t.test('with an older Node, setup names the required version and changes nothing', async (t) => {
  const root = makeMiniature(t)
  const result = await runSetup(root, ['--for', 'start'], { nodeArgs: ['--import', PRETEND] })
  t.equal(result.code, 1)
  t.match(result.stderr, 'MARTY_SETUP_NODE_TOO_OLD: Node 20.18.3 is too old: this project needs Node >= 20.19.0.')
  t.match(result.stderr, 'Install a newer Node')
  t.equal(result.stdout, '')
})

t.test('with --json, the problem is also printed as JSON', async (t) => {
  const root = makeMiniature(t)
  const result = await runSetup(root, ['--json'], { nodeArgs: ['--import', PRETEND] })
  t.equal(result.code, 1)
  t.match(JSON.parse(result.stdout), { ok: false, error: { code: 'MARTY_SETUP_NODE_TOO_OLD' } })
})

t.test('the minimum version and every newer version are accepted', async (t) => {
  t.equal(nodeVersionProblem('20.19.0'), undefined)
  t.equal(nodeVersionProblem('24.0.0'), undefined)
  t.match(nodeVersionProblem('18.20.8'), { code: 'MARTY_SETUP_NODE_TOO_OLD' })
})
