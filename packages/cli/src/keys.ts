import { randomBytes } from 'node:crypto'
import type { ApiKeyInfo, ApiKeys, IssuedApiKey } from '@marty/auth'
import { EXIT, UsageError, type Command, type ExitCode, type Output, type Values } from './command.js'
import { readNamedFile } from './policy-file.js'
import { withRedis } from './with-redis.js'
import { day, flag, json, oneOf, seconds, secretFile, table, text, texts } from './values.js'

const STORE = {
  file: { type: 'string', help: 'The key file' },
  redis: { type: 'string', help: 'The Redis that holds the keys, instead of a file (default: the variable MARTY_REDIS_URL)' },
  'redis-prefix': { type: 'string', help: 'Prefix of their names in Redis (default: marty:keys)' }
} as const
const FORMAT = {
  'pepper-file': { type: 'string', help: 'File with the pepper, at least 32 bytes', required: true },
  prefix: { type: 'string', help: 'The prefix of every key of the service', required: true },
  environment: { type: 'string', help: 'The environment the keys are for', required: true }
} as const
const JSON_OPTION = { json: { type: 'boolean', help: 'Write the result as JSON' } } as const

/** For listing, revoking and pruning, which neither create nor verify a secret, so any pepper will do. */
const NO_SECRETS = { pepper: randomBytes(32), prefix: 'none', environment: 'none' } as const

/**
 * `mayMake` is set for the only command that creates a key
 * file; for the others, a missing file is an error.
 */
async function withKeys<Result> (
  values: Values,
  work: (keys: ApiKeys) => Promise<Result>,
  mayMake = false
): Promise<Result> {
  const format =
    values['pepper-file'] === undefined
      ? NO_SECRETS
      : {
          pepper: await secretFile(values, 'pepper-file'),
          prefix: text(values, 'prefix')!,
          environment: text(values, 'environment')!
        }
  const file = text(values, 'file')
  if (file !== undefined && values['redis'] !== undefined) throw new UsageError('give either --file or --redis')
  const { createApiKeys, createRedisApiKeyStore, openFileApiKeyStore } = await import('@marty/auth')
  if (file !== undefined) {
    if (!mayMake) await readNamedFile(file)
    return await work(createApiKeys({ store: openFileApiKeyStore(file), ...format }))
  }
  const prefix = text(values, 'redis-prefix')
  return await withRedis(
    values,
    async redis =>
      await work(
        createApiKeys({
          store: createRedisApiKeyStore({ redis, ...(prefix === undefined ? {} : { prefix }) }),
          ...format
        })
      )
  )
}

export const keysCreate: Command = {
  name: 'keys create',
  usage:
    '(--file FILE | --redis URL) --pepper-file FILE --prefix P --environment E --name NAME [--role R]... --expires TIME',
  summary: 'Creates an API key and prints it; it cannot be shown again',
  options: {
    ...STORE,
    ...FORMAT,
    name: { type: 'string', help: 'What the key is for', required: true },
    role: { type: 'string', multiple: true, help: 'A role; can be repeated' },
    scope: { type: 'string', multiple: true, help: 'A scope; can be repeated' },
    cidr: { type: 'string', multiple: true, help: 'A network the key may be used from; can be repeated' },
    expires: { type: 'string', help: 'How long it is valid: 12h, 90d; at most 365d', required: true },
    ...JSON_OPTION
  },
  positionals: [],
  async run (_, values, output) {
    const issued = await withKeys(
      values,
      async keys =>
        await keys.create({
          name: text(values, 'name')!,
          roles: texts(values, 'role'),
          scopes: texts(values, 'scope'),
          cidrs: texts(values, 'cidr'),
          expiresInSeconds: seconds(values, 'expires')!
        }),
      true
    )
    return tellOnce(issued, values, output)
  }
}

export const keysList: Command = {
  name: 'keys list',
  usage: '(--file FILE | --redis URL) [--json]',
  summary: 'Lists the API keys; never their secrets',
  options: { ...STORE, ...JSON_OPTION },
  positionals: [],
  async run (_, values, output) {
    const list = await withKeys(values, async keys => await keys.list())
    return tellAll(list, 'There are no keys.', values, output)
  }
}

export const keysRotate: Command = {
  name: 'keys rotate',
  usage: 'KEYID (--file FILE | --redis URL) --pepper-file FILE --prefix P --environment E [--overlap TIME]',
  summary: 'Gives a key a new secret and prints it; the old one stays valid for the overlap',
  options: {
    ...STORE,
    ...FORMAT,
    overlap: { type: 'string', help: 'How long the old secret stays valid: 0, 1h, at most 7d (default: 24h)' },
    ...JSON_OPTION
  },
  positionals: ['KEYID'],
  async run ([keyId = ''], values, output) {
    const overlapSeconds = seconds(values, 'overlap')
    const issued = await withKeys(
      values,
      async keys => await keys.rotate(keyId, overlapSeconds === undefined ? {} : { overlapSeconds })
    )
    return tellOnce(issued, values, output)
  }
}

export const keysRevoke: Command = {
  name: 'keys revoke',
  usage: 'KEYID (--file FILE | --redis URL) [--json]',
  summary: 'Revokes a key',
  options: { ...STORE, ...JSON_OPTION },
  positionals: ['KEYID'],
  async run ([keyId = ''], values, output) {
    await withKeys(values, async keys => { await keys.revoke(keyId) })
    output.out(flag(values, 'json') ? json({ keyId, revoked: true }) : `${keyId} is revoked\n`)
    return EXIT.ok
  }
}

export const keysPrune: Command = {
  name: 'keys prune',
  usage: '(--file FILE | --redis URL) [--older-than TIME] [--json]',
  summary: 'Removes keys that are revoked or have expired',
  options: {
    ...STORE,
    'older-than': { type: 'string', help: 'Only those that ended this long ago: 30d (default: all)' },
    ...JSON_OPTION
  },
  positionals: [],
  async run (_, values, output) {
    const olderThanSeconds = seconds(values, 'older-than')
    const gone = await withKeys(
      values,
      async keys => await keys.prune(olderThanSeconds === undefined ? {} : { olderThanSeconds })
    )
    return tellAll(gone, 'There was nothing to remove.', values, output)
  }
}

export const keysRotateSigning: Command = {
  name: 'keys rotate-signing',
  usage: 'FILE --algorithm ALG [--activate-in TIME] [--overlap TIME] [--json]',
  summary:
    'Adds a signing key to a key file, or creates the file; older keys stay valid for the overlap',
  options: {
    algorithm: { type: 'string', help: 'HS256, ES256, EdDSA, RS256 or PS256', required: true },
    'activate-in': {
      type: 'string',
      help: 'Delay before it signs, so that every verifier knows it by then (default: 60s; 0 for the first key)'
    },
    overlap: { type: 'string', help: 'How long older keys verify after that (default: 24h)' },
    ...JSON_OPTION
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const algorithm = oneOf('--algorithm', text(values, 'algorithm')!, ['HS256', 'ES256', 'EdDSA', 'RS256', 'PS256'])
    const activatesInSeconds = seconds(values, 'activate-in')
    const overlapSeconds = seconds(values, 'overlap')
    const { rotateSigningKeys } = await import('@marty/auth')
    const key = await rotateSigningKeys(file, {
      algorithm,
      ...(activatesInSeconds === undefined ? {} : { activatesInSeconds }),
      ...(overlapSeconds === undefined ? {} : { overlapSeconds })
    })
    output.out(
      flag(values, 'json')
        ? json({ kid: key.kid, algorithm, activates_at: new Date(key.activatesAt).toISOString() })
        : `${key.kid} signs from ${new Date(key.activatesAt).toISOString()}\n`
    )
    return EXIT.ok
  }
}

function tellOnce (issued: IssuedApiKey, values: Values, output: Output): ExitCode {
  output.out(flag(values, 'json') ? json(issued) : `${issued.key}\n`)
  return EXIT.ok
}

function tellAll (keys: readonly ApiKeyInfo[], none: string, values: Values, output: Output): ExitCode {
  const forPeople = keys.length === 0 ? `${none}\n` : listing(keys)
  output.out(flag(values, 'json') ? json(keys) : forPeople)
  return EXIT.ok
}

function listing (keys: readonly ApiKeyInfo[]): string {
  const now = Date.now()
  return table(
    ['KEY ID', 'NAME', 'ROLES', 'STATE', 'LAST USED'],
    keys.map(({ keyId, name, roles, revokedAt, expiresAt, lastUsedAt }) => [
      keyId,
      name,
      roles.join(',') || '-',
      revokedAt === null ? `${expiresAt <= now ? 'expired' : 'until'} ${day(expiresAt)}` : `revoked ${day(revokedAt)}`,
      lastUsedAt === null ? 'never' : day(lastUsedAt)
    ])
  )
}
