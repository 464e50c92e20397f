import t from 'tap'
import { closest, didYouMean, didYouMeanOrKnown } from '@marty/core'

t.test('names the nearest candidate, and nothing when none is near', async t => {
  const words = ['permission', 'roles', 'public', 'max_connections']
  t.equal(closest('permision', words), 'permission')
  t.equal(closest('rolse', words), 'roles', 'a transposition is one mistake')
  t.equal(closest('Max_Connection', words), 'max_connections')
  t.equal(closest('zebra', words), null)
  t.equal(closest('', words), null)
})

t.test('asks whether the nearest candidate was meant, or lists what is known', async t => {
  t.equal(didYouMean('rolse', ['roles', 'public']), '; did you mean "roles"?')
  t.equal(didYouMean('zebra', ['roles', 'public']), '')
  t.equal(didYouMeanOrKnown('rolse', new Set(['roles', 'public'])), '; did you mean "roles"?')
  t.equal(didYouMeanOrKnown('zebra', new Set(['roles', 'public'])), '; known are roles, public')
  t.equal(didYouMeanOrKnown('zebra', []), '; there are none')
})
