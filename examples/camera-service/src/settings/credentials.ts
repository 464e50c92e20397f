import { openFileApiKeyStore, openSigningKeys, type ApiKeyOptions, type TokenOptions } from '@marty/auth'
import type { Settings } from './settings.js'
import type { Secrets } from './secrets.js'

/** How the service's tokens are made and checked; the token command and the service must agree. */
export function tokenOptions (
  {
    config: {
      security: { jwt }
    },
    signingKeysFile
  }: Settings,
  secrets: Secrets
): TokenOptions {
  return {
    issuer: jwt.issuer,
    audience: jwt.audience,
    keys:
      signingKeysFile === null
        ? { signing: { kid: 'camera-service', algorithm: 'HS256', secret: secrets.jwt } }
        : openSigningKeys(signingKeysFile),
    accessTokenTtlSeconds: jwt.expiry_minutes * 60
  }
}

/** How its API keys are kept and checked; the key command and the service must agree. */
export function apiKeyOptions ({ config, apiKeysFile }: Settings, secrets: Secrets): ApiKeyOptions {
  return {
    store: openFileApiKeyStore(apiKeysFile),
    prefix: 'cam',
    environment: config.environment,
    pepper: secrets.apiKeyPepper
  }
}
