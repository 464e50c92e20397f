import { parseArgs } from 'node:util'
import { issueToken } from '@marty/auth'
import { ROLES, roleOf, runCommand, secondsOf } from './command-line.js'
import { tokenOptions } from '../settings/credentials.js'
import { loadSettings } from '../settings/settings.js'
import { loadSecrets } from '../settings/secrets.js'

const HELP = `Prints an access token for the camera service, signed with the key of the service.

  npm run -s token -- --role ROLE [--user NAME] [--ttl TIME]

  --role ROLE   ${ROLES.join(', ')}
  --user NAME   subject of the token (default: the name of the role)
  --ttl TIME    lifetime, such as 90s, 15m, 8h or 1d (default: security.jwt.expiry_seconds)
  --help        print this text

Exit codes: 0 success, 1 the configuration is not valid, 2 wrong arguments.`

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
