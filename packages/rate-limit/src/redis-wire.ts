import type { Charge, ChargeState } from './store.js'

/** A log in Redis. */
export interface Log {
  readonly key: string
  /** Logs of one group share a slot of the cluster. */
  readonly group: number
  readonly isList: boolean
  /** Its place among the keys of the call that is being packed, and which call that is. */
  index: number
  call: number
  /** Units it held when it was last heard of, in all and in the window of the burst, and when that was by `performance.now()`; 0 when it never was. */
  used: number
  usedInBurst: number
  heardAtMs: number
}

/** One log, and what a request is charged there: by a rule, and by its burst if it has one. */
export interface Entry {
  readonly log: Log
  readonly charge: Charge
  readonly burst: Charge | null
}

/** What one call said of one request. */
export interface TakeAnswer {
  readonly allowed: boolean
  /** Redis's time, in microseconds since the epoch. */
  readonly atUs: number
  /** Of every charge: a burst's is right behind its rule's. */
  readonly states: readonly ChargeState[]
}

const RULE_BYTES = 21
const CHARGE_BYTES = 7
const STATE_BYTES = 15

let calls = 0

/** The arguments of the take script, in the form it documents. */
export function packRequests (requests: ReadonlyArray<readonly Entry[]>): { readonly keys: string[], readonly rules: Buffer, readonly charges: Buffer } {
  const call = ++calls
  const keys: string[] = []
  const rules: Entry[] = []
  let size = requests.length
  for (const entries of requests) size += entries.length * CHARGE_BYTES
  const charges = Buffer.allocUnsafe(size)
  let at = 0
  for (const entries of requests) {
    charges[at++] = entries.length
    for (const entry of entries) {
      const { log, charge: { cost } } = entry
      if (log.call !== call) {
        log.call = call
        log.index = keys.push(log.key)
      }
      charges.writeUInt16BE(log.index, at)
      charges.writeUInt16BE(ruleIndex(rules, entry), at + 2)
      charges.writeUIntBE(cost, at + 4, 3)
      at += CHARGE_BYTES
    }
  }
  const packed = Buffer.allocUnsafe(rules.length * RULE_BYTES)
  for (const [i, { log: { isList }, charge: { limit, windowMs }, burst }] of rules.entries()) {
    packed.writeUInt32BE(limit, i * RULE_BYTES)
    packed.writeUIntBE(windowMs * 1000, i * RULE_BYTES + 4, 6)
    packed[i * RULE_BYTES + 10] = isList ? 1 : 0
    packed.writeUInt32BE(burst?.limit ?? 0, i * RULE_BYTES + 11)
    packed.writeUIntBE((burst?.windowMs ?? 0) * 1000, i * RULE_BYTES + 15, 6)
  }
  return { keys, rules: packed, charges }
}

/** Few rules and limits occur in one call, so looking along them is faster than a table. */
function ruleIndex (rules: Entry[], entry: Entry): number {
  const { charge: { rule, limit, windowMs }, burst } = entry
  for (let i = 0; i < rules.length; i++) {
    const { charge, burst: other } = rules[i]!
    if (charge.rule === rule && charge.limit === limit && charge.windowMs === windowMs && burst?.limit === other?.limit && burst?.windowMs === other?.windowMs) return i + 1
  }
  return rules.push(entry)
}

/** The answer of the take script. Throws `TypeError` when it is something else. */
export function readAnswers (reply: unknown, requests: ReadonlyArray<readonly Entry[]>): TakeAnswer[] {
  let size = 7
  for (const entries of requests) size += 1 + statesOf(entries) * STATE_BYTES
  if (!Buffer.isBuffer(reply) || reply.length !== size) throw new TypeError('Redis answered the limiter with something else than decisions')
  const atUs = reply.readUInt8(0) * 2 ** 48 + reply.readUIntBE(1, 6)
  let at = 7
  return requests.map(entries => {
    const allowed = reply[at++] === 1
    const states: ChargeState[] = []
    for (let left = statesOf(entries); left > 0; left--) {
      states.push({ remaining: reply.readUIntBE(at, 3), resetUs: reply.readUIntBE(at + 3, 6), retryUs: reply.readUIntBE(at + 9, 6) })
      at += STATE_BYTES
    }
    return { allowed, atUs, states }
  })
}

function statesOf (entries: readonly Entry[]): number {
  let count = entries.length
  for (const { burst } of entries) if (burst !== null) count++
  return count
}
