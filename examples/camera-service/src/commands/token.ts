import { parseArgs } from 'node:util'
import { issueToken } from '@marty/auth'
import { ROLES, roleOf, runCommand, secondsOf } from './command-line.js'
import { tokenOptions } from '../settings/credentials.js'
import { loadSettings } from '../settings/settings.js'
import { loadSecrets } from '../settings/secrets.js'

const HELP = `Prints a token for the camera service, signed with its key, and nothing else.

  npm run -s token -- --role ROLE [--user NAME] [--ttl TIME]

  --role ROLE   ${ROLES.join(', ')}
  --user NAME   whom the token is for (default: the role's name)
  --ttl TIME    how long it is valid: 90s, 15m, 8h, 1d (default: security.jwt.expiry_seconds)
  --help        this text

Exit codes: 0 printed, 1 the configuration is not valid, 2 wrong arguments.`

await runCommand(HELP, async () => {
  const { values } = parseArgs({
    options: { role: { type: 'string' }, user: { type: 'string' }, ttl: { type: 'string' }, help: { type: 'boolean' } }
  })
  if (values.help === true) return HELP
  const role = roleOf(values.role)
  const lifetime = values.ttl === undefined ? {} : { ttlSeconds: secondsOf(values.ttl) }
  const settings = loadSettings()
  const secrets = await loadSecrets(settings.dataDir, settings.config.security.jwt.secret_key)
  return issueToken(tokenOptions(settings, secrets), { subject: values.user ?? role, role, ...lifetime }).token
})
