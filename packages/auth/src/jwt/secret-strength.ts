import type { ItemSpec } from '@marty/core'

const MIN_BYTES = 32
const HOW = 'make one with: openssl rand -base64 48'

/** Declares a secret, apart from its sentence. A string counts as its UTF-8 bytes. */
export const SECRET: ItemSpec<Buffer | string> = {
  kind: 'custom',
  expected: 'a string or a Buffer with at least 32 random bytes',
  secret: true,
  accepts: isSecret,
  verify: secretProblem
}

/** Declares a secret that is kept only for old hashes: it may be weak. */
export const OLD_SECRET: ItemSpec<Buffer | string> = { ...SECRET, verify: lengthProblem }

function isSecret (value: unknown): value is Buffer | string {
  return typeof value === 'string' || Buffer.isBuffer(value)
}

/** Returns why a secret could be guessed, as the end of a sentence; null when it may be random. */
function secretProblem (secret: Buffer | string): string | null {
  return lengthProblem(secret) ?? weaknessOf(Buffer.from(secret as string))
}

function lengthProblem (secret: Buffer | string): string | null {
  const { length } = Buffer.from(secret as string)
  return length < MIN_BYTES ? `has ${length} bytes and needs at least ${MIN_BYTES}; ${HOW}` : null
}

/**
 * The number of bits a description must save, compared with writing out every character, to be more
 * than chance.
 */
const MARGIN_BITS = 48
/**
 * A secret whose description needs fewer bits is weaker than the hash it is used with. The check for
 * words does not use this limit, because words are weaker still.
 */
const STRONG_BITS = 256
/**
 * Only this many characters are examined. A longer secret with such a poor beginning was not generated
 * at random.
 */
const MAX_CHARACTERS = 1_024

/**
 * Returns why a secret is not random; null when it may be.
 *
 * The rule measures the secret instead of looking it up in a list of known bad ones. It describes the
 * characters in a few fixed ways (few different ones, a repeated part, equal steps, English letter
 * pairs and some words) and compares each description with writing out every character of its alphabet:
 * 3.3 bits for a digit, 4 for hexadecimal, 6 for base64, 8 for any byte. A secret is refused when a
 * description saves 48 bits. By Kraft's inequality, at most one in 2^48 random secrets has such a short
 * description of any one kind. Over all kinds, for both the text and the bytes it encodes, fewer than
 * one in 2^44 random secrets is refused by mistake.
 */
export function weaknessOf (secret: Buffer): string | null {
  const text = secret.subarray(0, MAX_CHARACTERS).toString('latin1').replace(/={0,2}[\r\n]{0,2}$/, '')
  const readings = [text]
  if (/^(?:[\da-f]{2})+$|^(?:[\dA-F]{2})+$/.test(text)) readings.push(Buffer.from(text, 'hex').toString('latin1'))
  else if (BASE64.test(text)) readings.push(Buffer.from(text, 'base64').toString('latin1'))
  for (const reading of readings) {
    const flaw = flawOf(reading)
    if (flaw !== null) return `${flaw}, so it can be guessed; ${HOW}`
  }
  return null
}

function flawOf (text: string): string | null {
  const codes = [...Buffer.from(text, 'latin1')]
  const size = alphabetSize(text)
  const isShort = (bits: number): boolean => bits < STRONG_BITS && bits + MARGIN_BITS <= codes.length * Math.log2(size)
  const steps = codes.slice(1).map((code, index) => (code - codes[index]! + 256) % 256)

  if (isShort(bitsOfFew(codes, size))) return 'consists of few different characters'
  if (isShort(bitsOfPeriod(codes, size))) return 'repeats itself'
  if (isShort(8 + Math.min(bitsOfFew(steps, 256), bitsOfPeriod(steps, 256)))) return 'counts up or down'
  return bitsOfWords(text) + MARGIN_BITS <= codes.length * Math.log2(size) ? 'consists of words' : null
}

const BASE64 = /^[\w-]+$|^[A-Za-z\d+/]+$/

/** The size of the smallest common alphabet that contains all characters. */
function alphabetSize (text: string): number {
  if (/^\d+$/.test(text)) return 10
  if (/^[\da-f]+$|^[\dA-F]+$/.test(text)) return 16
  if (/^[\da-f:-]+$|^[\dA-F:-]+$/.test(text)) return 18
  if (/^[\da-z]+$|^[\dA-Z]+$/.test(text)) return 36
  if (BASE64.test(text)) return 64
  return /^[\x20-\x7e]+$/.test(text) ? 95 : 256
}

/** Bits to list the characters that occur, and then each character by its index in that list. */
function bitsOfFew (codes: readonly number[], size: number): number {
  const different = new Set(codes).size
  let bits = Math.log2(size) + codes.length * Math.log2(different)
  for (let i = 0; i < different; i++) bits += Math.log2(size - i) - Math.log2(i + 1)
  return bits
}

/** Bits for the length of the repeated part, and for that part. */
function bitsOfPeriod (codes: readonly number[], size: number): number {
  let period = 1
  while (codes.some((code, index) => index >= period && code !== codes[index - period])) period++
  return Math.log2(codes.length) + period * Math.log2(size)
}

/**
 * Bits for each character given the one before it, or for a whole word of the list; Infinity when a
 * character is not printable ASCII.
 */
function bitsOfWords (text: string): number {
  if (!/^[\x20-\x7e]*$/.test(text)) return Infinity
  const bits = bitsOfCharacters(text)
  const lower = text.toLowerCase()
  // The lowest cost to reach each position in the text. One bit in eight marks the start of a word.
  const cheapest: number[] = new Array<number>(text.length + 1).fill(Infinity)
  cheapest[0] = 0
  for (let at = 0; at < text.length; at++) {
    const here = cheapest[at]!
    cheapest[at + 1] = Math.min(cheapest[at + 1]!, here + Math.log2(8 / 7) + bits[at]!)
    for (const word of WORDS) {
      if (!lower.startsWith(word, at) || !/^[a-z]+$|^[A-Z][a-z]*$|^[A-Z]+$/.test(text.slice(at, at + word.length))) {
        continue
      }
      cheapest[at + word.length] = Math.min(cheapest[at + word.length]!, here + 3 + Math.log2(3 * WORDS.length))
    }
  }
  return cheapest[text.length]!
}

function bitsOfCharacters (text: string): number[] {
  let previous = OTHER
  let wasUpper = false
  return [...text].map(character => {
    const letter = /[a-z]/i.test(character) ? parseInt(character, 36) - 10 : OTHER
    const pair = parseInt(LETTER_PAIRS[previous]![letter]!, 36) / 3
    previous = letter
    if (letter === OTHER) return pair + (/[ ._-]/.test(character) ? 3 : 1 + Math.log2(39))
    const isUpper = character < 'a'
    const bits = pair + (isUpper === wasUpper ? Math.log2(8 / 7) : 3)
    wasUpper = isUpper
    return bits
  })
}

/** Words that are often used as placeholders for a secret. */
const WORDS: readonly string[] = `
  abc access admin and api app application asdfghjkl auth bar battery baz bit bits byte bytes change changed changeme character
  characters client code company config cookie correct crypto database default demo dev development dolor dragon dummy encrypt
  encryption environment ever example fake fixme foo for generated hash hello here hmac horse host hundred insecure ipsum jwt
  key keyboard least letmein local localhost long lorem master minimum monkey more must name never not one only pass passphrase
  password pepper placeholder please private prod production project public qwerty qwertyuiop random refresh replace root salt
  sample secret secure security server service session shared should sign signature signing staging staple storage store string
  strong super temp temporary test testing tests than that the thirty this todo token two use user value variable very web
  welcome with world your zxcvbnm`
  .trim()
  .split(/\s+/)

/** The index, in rows and columns, of all characters that are not letters. */
const OTHER = 26

/**
 * The cost of each letter, or other character, after each: in thirds of a bit, as base-36 digits,
 * counted in 1.6 million letters of technical English. Rounded up, so that each row is a valid code.
 */
const LETTER_PAIRS: readonly string[] = [
  'nhdermfsgplaf9phtab8hiophsd', 'bnnq6rqtfctapocpudgmasrubuf', 'aqjrast9fsdfps8qtfj9ftqulug',
  'dljf7lkpaprjklckthdggnltlt6', 'dldcigkoiqshgbkhlaadnikgkt8', 'bnjnceqq9ssinn8mtdiedqnuiu8',
  'elkm7llebrrekfglteegdpltmr7', '9pop4pssattnlocouilhlspuntb', 'iidggehustmcf7aishaasitnuml',
  'bust5uurftsttteptr5qdfiuuuo', 'akll5mopbqrlnfjltnaikqltnu9', 'clmf8mpr9so9opbmunfdelmudub',
  '7gni7pssbssmfobaupglgppupuc', 'endadjapgpmimkcisnaajlntit9', 'jgheldmslnlgd8ieu8hdchfqrtc',
  '8rqn9rqnetsahnbdu9hagnrujug', 'qsssssttquuhstssusqq1ssutuh', 'bmii7kkqbskihfbmugddhmmugua',
  'flfl9kphcqnkkldgskd9fnkqjt6', 'dnhoamp7asslooblteefhrkthu9', 'hhgidjhtetsaebpeu99aotrsttf',
  '8rpr3qis9tsrqpiquqmnoqqtrud', 'appocqs85tqnrdbqufemrsqusud', '7ododorlcrtpnpm7uol8prophta',
  'ejikijoogqqiie8ctidemmhtoq5', '9roo3rtratugrsgouqioktrqllf', 'bfdfffkjcmnhfgderfdahjfsks9'
]
