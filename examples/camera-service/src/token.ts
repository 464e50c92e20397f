import { parseArgs } from 'node:util'
import { issueToken } from '@marty/auth'
import { ConfigError } from '@marty/config'
import { closest } from '@marty/core'
import { loadSettings } from './project.js'
import { loadSecrets } from './secrets.js'
import { tokenOptions } from './token-options.js'

const ROLES = ['viewer', 'operator', 'admin']
const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }
const HELP = `Prints a token for the camera service, signed with its key, and nothing else.

  npm run -s token -- --role ROLE [--user NAME] [--ttl TIME]

  --role ROLE   ${ROLES.join(', ')}
  --user NAME   whom the token is for (default: the role's name)
  --ttl TIME    how long it is valid: 90s, 15m, 8h, 1d (default: security.jwt.expiry_minutes)
  --help        this text

Exit codes: 0 printed, 1 the configuration is not valid, 2 wrong arguments.`

class UsageError extends Error {}

try {
  const { values } = parseArgs({ options: { role: { type: 'string' }, user: { type: 'string' }, ttl: { type: 'string' }, help: { type: 'boolean' } } })
  if (values.help === true) {
    process.stdout.write(HELP + '\n')
  } else {
    const role = roleOf(values.role)
    const ttlSeconds = values.ttl === undefined ? undefined : secondsOf(values.ttl)
    const settings = loadSettings()
    const secrets = await loadSecrets(settings.dataDir, settings.config.security.jwt.secret_key)
    const { token } = issueToken(tokenOptions(settings, secrets), {
      subject: values.user ?? role, role, ...(ttlSeconds === undefined ? {} : { ttlSeconds })
    })
    process.stdout.write(token + '\n')
  }
} catch (error) {
  const usage = error instanceof UsageError || (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') === true
  process.stderr.write(error instanceof ConfigError ? `The configuration is not valid:\n${error.message}\n` : `${(error as Error).message}\n`)
  if (usage) process.stderr.write('\n' + HELP + '\n')
  process.exitCode = usage ? 2 : 1
}

function roleOf (role: string | undefined): string {
  if (role === undefined) throw new UsageError('--role is missing')
  if (ROLES.includes(role)) return role
  const near = closest(role, ROLES)
  throw new UsageError(`--role ${role} is not a role` + (near === null ? '' : `; did you mean ${near}?`))
}

function secondsOf (text: string): number {
  const [, amount, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (amount === undefined || unit === undefined || Number(amount) === 0) throw new UsageError(`--ttl ${text} is not a time such as 90s, 15m, 8h or 1d`)
  return Number(amount) * UNITS[unit]!
}
