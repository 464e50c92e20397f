import t from 'tap'
import fc from 'fast-check'
import { randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { createApiKeys, createMemoryApiKeyStore, type ApiKeys } from '@marty/auth'
import { keyOptions, request } from './api-key-service.js'

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
/**
 * As a scanner of repositories would look for keys: it knows the form that the README promises, and nothing of this
 * code.
 */
const FORM = /[a-z][a-z0-9]{1,15}_[a-z][a-z0-9]{0,15}_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}/g

function found (text: string): string[] {
  return (text.match(FORM) ?? []).filter(one => {
    let number = crc32(one.slice(0, -7))
    let sum = ''
    while (sum.length < 6) {
      sum = BASE62[number % 62]! + sum
      number = Math.floor(number / 62)
    }
    return one.endsWith(`_${sum}`)
  })
}

/** Whether a text is well formed: then, and only then, the store is asked for it. */
function reader (prefix: string, environment: string): { keys: ApiKeys, isWellFormed: (token: string) => boolean } {
  const store = createMemoryApiKeyStore()
  let asked = 0
  const keys = createApiKeys(
    keyOptions({
      prefix,
      environment,
      hash: 'hmac-sha256',
      store: {
        ...store,
        get (keyId) {
          asked++
          return store.get(keyId)
        }
      }
    })
  )
  return {
    keys,
    isWellFormed (token) {
      const before = asked
      // A key that is well formed and wrong is refused later.
      try { void Promise.resolve(keys.verify(token)).catch(() => {}) } catch {}
      return asked > before
    }
  }
}

const { keys, isWellFormed } = reader('cam', 'test')

t.test('every edit of one character is refused, at every place', async t => {
  const { key } = await keys.create(request)
  t.ok(isWellFormed(key))
  let edits = 0
  for (let at = 0; at <= key.length; at++) {
    for (const char of [...BASE62, '_', '-', ' ', '\n', '\0', 'é', '０']) {
      const edited = [key.slice(0, at) + char + key.slice(at + 1), key.slice(0, at) + char + key.slice(at)]
      for (const one of edited) if (one !== key && isWellFormed(one)) t.fail(`taken for a key: ${JSON.stringify(one)}`)
      edits += 2
    }
    if (at < key.length && isWellFormed(key.slice(0, at) + key.slice(at + 1))) {
      t.fail(`taken for a key without its character ${at}`)
    }
    const swapped = key.slice(0, at) + (key[at + 1] ?? '') + (key[at] ?? '') + key.slice(at + 2)
    if (swapped !== key && isWellFormed(swapped)) t.fail(`taken for a key with the characters from ${at} swapped`)
  }
  t.ok(edits > 10_000, `${edits} edits`)
})

t.test('every key is well formed, of its own service and environment alone, and is found in any text', async t => {
  const name = (max: number): fc.Arbitrary<string> =>
    fc.stringMatching(new RegExp(`^[a-z][a-z0-9]{1,${max - 1}}$`)).filter(one => one !== 'ses')
  await fc.assert(fc.asyncProperty(name(16), name(16), fc.string(), async (prefix, environment, around) => {
    const made = reader(prefix, environment)
    const { key, keyId } = await made.keys.create(request)
    // A boundary, as a scanner needs one: quotes, blanks and "=" stand around keys in files.
    const text = `${around} "${key}" ${around}`
    return made.isWellFormed(key) && key.split('_')[2] === keyId && found(text).includes(key) &&
      isWellFormed(key) === (prefix === 'cam' && environment === 'test')
  }), { numRuns: 300 })
})

t.test('a thousand keys in a heap of random text are all found, and nothing else is', async t => {
  const made: string[] = []
  while (made.length < 1_000) made.push((await keys.create(request)).key)
  t.equal(new Set(made).size, made.length)
  const random = (length: number): string => Array.from(randomBytes(length), byte => BASE62[byte % 62]).join('')
  // Of the right form, and random: only the checksum tells.
  const decoys = Array.from({ length: 10_000 }, () => `cam_test_${random(12)}_${random(43)}_${random(6)}`)
  t.strictSame(found(decoys.join('\n')), [])
  t.notOk(decoys.some(isWellFormed))
  const heap = decoys.flatMap((decoy, index) => index % 10 === 0 ? [decoy, `key="${made[index / 10]}"`] : [decoy])
  t.strictSame(found(heap.join('\n')), made)
})
