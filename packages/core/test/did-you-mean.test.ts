import t from 'tap'
import { closest } from '@marty/core'

t.test('names the nearest candidate, and nothing when none is near', async t => {
  const words = ['permission', 'roles', 'public', 'max_connections']
  t.equal(closest('permision', words), 'permission')
  t.equal(closest('rolse', words), 'roles', 'a transposition is one mistake')
  t.equal(closest('Max_Connection', words), 'max_connections')
  t.equal(closest('zebra', words), null)
  t.equal(closest('', words), null)
})
