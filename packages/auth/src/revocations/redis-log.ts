import { randomBytes } from 'node:crypto'
import type { RevocationRecord } from './entries.js'
import type { RedisAuthStore } from '../store-options.js'
import { storeScript } from '../store-script.js'

/** One page of the log. */
export interface RevocationPage {
  /** Epoch of the log. */
  readonly epoch: string
  /** Where the next page begins. */
  readonly seq: string
  readonly records: readonly RevocationRecord[]
  readonly isLast: boolean
}

/** The revocations of all replicas, in the order in which they were written. */
export interface RevocationLog {
  /**
   * Adds records that are new or end later than the stored ones. Returns the epoch of the log that it
   * wrote to.
   */
  append (records: readonly RevocationRecord[]): Promise<string>
  /** Returns the records written after `seq`, or all of them when the log has another epoch by now. */
  read (epoch: string, seq: string): Promise<RevocationPage>
}

const PAGE = 500

/**
 * KEYS: head (hash: generation, seq, and the issuedUntil of each subject), log (member -> seq), expiry
 * (member -> ms).
 * ARGV[1]: a new generation.
 *
 * The epoch shows whether everything that was read before is still there. It has two parts. The
 * generation is lost with the data. The server's run id changes with a restart or a failover: either
 * may lose the last writes while other replicas add as many. If the server does not report a run id,
 * only the generation counts. An empty log has a generation too; otherwise a log that was filled and
 * lost between two reads would seem unchanged. If only the head was lost, numbering continues from the
 * last number in the log: replicas would not see lower numbers than those they have read.
 */
const LOG_EPOCH = `
local head, log, expiry = KEYS[1], KEYS[2], KEYS[3]
local generation = redis.call('HGET', head, 'generation')
if not generation then
  generation = ARGV[1]
  local last = redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')
  redis.call('HSET', head, 'generation', generation, 'seq', last[2] or 0)
  redis.call('EXPIRE', head, 86400)
end
local info = redis.pcall('INFO', 'server')
local logEpoch = (type(info) == 'string' and string.match(info, 'run_id:(%w+)') or '') .. ':' .. generation
`

/** Further ARGV: member, expiry and issuedUntil of each record. */
const APPEND = `${LOG_EPOCH}
local time = redis.call('TIME')
for _, member in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', time[1] .. '000', 'LIMIT', 0, 100)) do
  redis.call('ZREM', log, member)
  redis.call('ZREM', expiry, member)
  redis.call('HDEL', head, member)
end
for i = 2, #ARGV, 3 do
  local member, ends, issuedUntil = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local isLonger = tonumber(ends) > tonumber(redis.call('ZSCORE', expiry, member) or 0)
  local isLater = tonumber(issuedUntil) > tonumber(redis.call('HGET', head, member) or 0)
  if isLonger then redis.call('ZADD', expiry, ends, member) end
  if isLater then redis.call('HSET', head, member, issuedUntil) end
  if isLonger or isLater or not redis.call('ZSCORE', log, member) then
    redis.call('ZADD', log, redis.call('HINCRBY', head, 'seq', 1), member)
  end
end
local last = redis.call('ZREVRANGE', expiry, 0, 0, 'WITHSCORES')
for _, key in ipairs(KEYS) do redis.call('PEXPIREAT', key, string.format('%.0f', last[2] + 60000)) end
return logEpoch
`

/** Further ARGV: the epoch and seq that the reader knows, and the maximum number of members to return. */
const READ = `${LOG_EPOCH}
local seq = ARGV[2] == logEpoch and ARGV[3] or '0'
local found = redis.call('ZRANGEBYSCORE', log, '(' .. seq, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[4])
local answer = { logEpoch, found[#found] or seq }
for i = 1, #found, 2 do
  local member = found[i]
  table.insert(answer, member)
  table.insert(answer, redis.call('ZSCORE', expiry, member) or '0')
  table.insert(answer, redis.call('HGET', head, member) or '0')
end
return answer
`

export function createRevocationLog ({ redis, prefix }: Required<RedisAuthStore>): RevocationLog {
  const keys = ['head', 'log', 'expiry'].map(name => `{${prefix}}:revoked:${name}`)
  const append = storeScript(redis, APPEND)
  const read = storeScript(redis, READ)
  return {
    async append (records) {
      return (await append(keys, [
        newGeneration(),
        ...records.flatMap(({ member, until, issuedUntil }) => [member, until, issuedUntil])
      ])) as string
    },
    async read (knownEpoch, knownSeq) {
      const [epoch, seq, ...rest] = (await read(keys, [newGeneration(), knownEpoch, knownSeq, PAGE])) as [
        string,
        string,
        ...string[]
      ]
      const records: RevocationRecord[] = []
      for (let i = 0; i < rest.length; i += 3) {
        records.push({ member: rest[i]!, until: Number(rest[i + 1]), issuedUntil: Number(rest[i + 2]) })
      }
      return { epoch, seq, records, isLast: records.length < PAGE }
    }
  }
}

function newGeneration (): string {
  return randomBytes(12).toString('base64url')
}
