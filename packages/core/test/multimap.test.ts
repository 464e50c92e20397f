import t from 'tap'
import { append, Multimap } from '@marty/core'

t.test('lists grow under their keys', async t => {
  const lists = new Map<string, number[]>()
  append(lists, 'a', 1)
  append(lists, 'b', 2)
  append(lists, 'a', 1)
  t.strictSame([...lists], [['a', [1, 1]], ['b', [2]]])
})

t.test('sets grow and shrink under their keys', async t => {
  const map = new Multimap<string, number>()
  for (const item of [1, 2, 1]) map.add('a', item)
  map.add('b', 3)
  t.strictSame([...map.get('a')], [1, 2])
  t.strictSame([...map.get('zebra')], [])
  t.equal(map.size, 2)

  t.equal(map.delete('b', 3), true)
  t.equal(map.delete('b', 3), false)
  t.equal(map.delete('a', 3), false)
  t.equal(map.size, 1, 'a key without items is gone')
})
