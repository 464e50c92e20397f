import { parseArgs } from 'node:util'
import { createApiKeys, type ApiKeyInfo } from '@marty/auth'
import { oneOf, roleOf, ROLES, runCommand, secondsOf, UsageError } from './command-line.js'
import { apiKeyOptions } from '../settings/credentials.js'
import { loadSettings } from '../settings/settings.js'
import { loadSecrets } from '../settings/secrets.js'

const HELP = `Manages the API keys of the camera service. A running service applies changes within a second.

  npm run -s api-key -- create --name NAME --role ROLE [--ttl TIME]   prints the key; it cannot be shown again
  npm run -s api-key -- list [--json]
  npm run -s api-key -- rotate KEYID                                  prints a new key; the old one is valid for one more day
  npm run -s api-key -- revoke KEYID

  --name NAME   what the key is for
  --role ROLE   ${ROLES.join(', ')}
  --ttl TIME    lifetime, such as 12h or 90d, at most 365d (default: 90d)
  --json        print JSON
  --help        print this text

Exit codes: 0 success, 1 failure, 2 wrong arguments.`

const COMMANDS = ['create', 'list', 'rotate', 'revoke']

await runCommand(HELP, async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: 'string' },
      role: { type: 'string' },
      ttl: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean' }
    }
  })
  if (values.help === true) return HELP
  const [verb, keyId = ''] = positionals
  if (verb === undefined) throw new UsageError(`a command is missing: ${COMMANDS.join(', ')}`)
  oneOf('command', verb, COMMANDS)
  const needsKey = verb === 'rotate' || verb === 'revoke'
  if (needsKey !== (keyId !== '')) {
    throw new UsageError(needsKey ? `${verb} needs the id of a key` : `${verb} takes no id`)
  }
  const request =
    verb === 'create'
      ? { name: nameOf(values.name), roles: [roleOf(values.role)], expiresInSeconds: secondsOf(values.ttl ?? '90d') }
      : null

  const settings = loadSettings()
  const secrets = await loadSecrets(settings.dataDir, settings.config.security.jwt.secret_key)
  const keys = createApiKeys(apiKeyOptions(settings, secrets))
  if (request !== null) return (await keys.create(request)).key
  if (verb === 'rotate') return (await keys.rotate(keyId)).key
  if (verb === 'revoke') {
    await keys.revoke(keyId)
    return `${keyId} is revoked`
  }
  const list = await keys.list()
  return values.json === true ? JSON.stringify(list, null, 2) : list.map(line).join('\n') || 'There are no keys.'
})

function nameOf (name: string | undefined): string {
  if (name === undefined) throw new UsageError('--name is missing')
  return name
}

function line ({ keyId, name, roles, expiresAt, revokedAt }: ApiKeyInfo): string {
  return `${keyId}  ${roles.join(',').padEnd(8)}  ${stateOf(expiresAt, revokedAt).padEnd(16)}  ${name}`
}

function stateOf (expiresAt: number, revokedAt: number | null): string {
  if (revokedAt !== null) return 'revoked'
  return expiresAt <= Date.now() ? 'expired' : `until ${new Date(expiresAt).toISOString().slice(0, 10)}`
}
