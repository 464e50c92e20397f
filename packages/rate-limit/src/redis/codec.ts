import type { Charge, ChargeState, StoreAnswer } from '../store/store.js'

/** A window in Redis. */
export interface StoredWindow {
  readonly key: string
  /** Windows of one group share a slot of the cluster. */
  readonly group: number
  readonly isList: boolean
  /** Whether this object is cached, and so the only one for its window. */
  readonly isKept: boolean
  /** Its index among the keys of the call that is being packed, and the number of that call. */
  index: number
  call: number
  /**
   * The last known number of units, in the whole window and in the window of the burst, and when it was received by
   * `performance.now()`; 0 for never.
   */
  used: number
  usedInBurst: number
  heardAtMs: number
}

/** One window with the charges of a request for it: that of a rule, and that of its burst if it has one. */
export interface Entry {
  readonly window: StoredWindow
  readonly charge: Charge
  readonly burst: Charge | null
}

/** The reply of one call. */
export interface Reply {
  /** Redis's time, in microseconds since the epoch. */
  readonly atUs: number
  /** One for each request. The state of a burst directly follows that of its rule. */
  readonly answers: StoreAnswer[]
}

const RULE_BYTES = 25
const COUNT_BYTES = 2
const CHARGE_BYTES = 8
const STATE_BYTES = 15
const TIME_BYTES = 7

let calls = 0

/** Packs the arguments of the take script, in the format that the script documents. */
export function packRequests (requests: ReadonlyArray<readonly Entry[]>): {
  readonly keys: string[]
  readonly rules: string
  readonly charges: string
} {
  const call = ++calls
  const keys: string[] = []
  const rules: Entry[] = []
  let size = requests.length * COUNT_BYTES
  for (let i = 0; i < requests.length; i++) size += requests[i]!.length * CHARGE_BYTES
  const charges = Buffer.allocUnsafe(size)
  let at = 0
  for (let i = 0; i < requests.length; i++) {
    const entries = requests[i]!
    pack(charges, at, entries.length, COUNT_BYTES)
    at += COUNT_BYTES
    for (let e = 0; e < entries.length; e++) {
      const entry = entries[e]!
      const {
        window,
        charge: { cost }
      } = entry
      if (window.call !== call) {
        window.call = call
        const known = window.isKept ? -1 : keys.indexOf(window.key)
        window.index = known === -1 ? keys.push(window.key) : known + 1
      }
      const rule = ruleIndex(rules, entry)
      pack(charges, at, window.index, 2)
      pack(charges, at + 2, rule, 2)
      pack(charges, at + 4, cost, 4)
      at += CHARGE_BYTES
    }
  }
  const packed = Buffer.allocUnsafe(rules.length * RULE_BYTES)
  for (const [
    i,
    {
      window: { isList },
      charge: { limit, windowMs },
      burst
    }
  ] of rules.entries()) {
    const at = i * RULE_BYTES
    pack(packed, at, limit, 5)
    pack(packed, at + 5, windowMs * 1000, 7)
    pack(packed, at + 12, isList ? 1 : 0, 1)
    pack(packed, at + 13, burst?.limit ?? 0, 5)
    pack(packed, at + 18, (burst?.windowMs ?? 0) * 1000, 7)
  }
  return { keys, rules: packed.toString('latin1'), charges: charges.toString('latin1') }
}

/**
 * Writes seven bits per byte. Done by hand, as is reading below: the argument checks of Buffer's methods took longer
 * than everything else here.
 */
function pack (bytes: Buffer, at: number, value: number, length: number): void {
  let rest = value
  for (let i = at + length - 1; i >= at; i--) {
    bytes[i] = rest & 127
    rest = rest > 0x7fffffff ? Math.floor(rest / 128) : rest >> 7
  }
  // A truncated value would be a different number, for example a smaller cost.
  if (rest !== 0 || Number.isNaN(value)) {
    throw new RangeError(
      `the limiter cannot tell Redis ${value}: it must be an integer from 0 to ${2 ** (7 * length) - 1}`
    )
  }
}

/** One call has few rules and limits, so a linear search is faster than a map. */
function ruleIndex (rules: Entry[], entry: Entry): number {
  const { charge: { rule, limit, windowMs }, burst } = entry
  for (let i = 0; i < rules.length; i++) {
    const { charge, burst: other } = rules[i]!
    if (
      charge.rule === rule &&
      charge.limit === limit &&
      charge.windowMs === windowMs &&
      burst?.limit === other?.limit &&
      burst?.windowMs === other?.windowMs
    ) {
      return i + 1
    }
  }
  return rules.push(entry)
}

/** Parses the reply of the take script. Throws `TypeError` when it has another format. */
export function readAnswers (reply: unknown, requests: ReadonlyArray<readonly Entry[]>): Reply {
  let size = TIME_BYTES
  for (let i = 0; i < requests.length; i++) size += 1 + statesOf(requests[i]!) * STATE_BYTES
  if (!Buffer.isBuffer(reply) || reply.length !== size) {
    throw new TypeError('Redis answered the limiter with something else than decisions')
  }
  const atUs = reply[0]! * 2 ** 48 + uint48(reply, 1)
  const answers: StoreAnswer[] = []
  let at = TIME_BYTES
  for (let i = 0; i < requests.length; i++) {
    const allowed = reply[at++] === 1
    const states: ChargeState[] = []
    for (let left = statesOf(requests[i]!); left > 0; left--) {
      states.push({
        remaining: (reply[at]! << 16) | (reply[at + 1]! << 8) | reply[at + 2]!,
        resetUs: uint48(reply, at + 3),
        retryUs: uint48(reply, at + 9)
      })
      at += STATE_BYTES
    }
    answers.push({ allowed, degraded: false, states, takenAtUs: atUs })
  }
  return { atUs, answers }
}

function uint48 (bytes: Buffer, at: number): number {
  return (
    ((bytes[at]! << 8) | bytes[at + 1]!) * 2 ** 32 +
    ((bytes[at + 2]! << 24) >>> 0) +
    ((bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!)
  )
}

function statesOf (entries: readonly Entry[]): number {
  let count = entries.length
  for (let e = 0; e < entries.length; e++) if (entries[e]!.burst !== null) count++
  return count
}
