import { openFileApiKeyStore, openSigningKeys, type ApiKeyOptions, type TokenOptions } from '@marty/auth'
import type { Settings } from './settings.js'
import type { Secrets } from './secrets.js'

/** Options for issuing and verifying the service's tokens. The token command and the service must use the same ones. */
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
    accessTokenTtlSeconds: jwt.expiry_seconds
  }
}

/** Options for storing and verifying API keys. The key command and the service must use the same ones. */
export function apiKeyOptions ({ config, apiKeysFile }: Settings, secrets: Secrets): ApiKeyOptions {
  return {
    store: openFileApiKeyStore(apiKeysFile),
    prefix: 'cam',
    environment: config.environment,
    pepper: secrets.apiKeyPepper
  }
}
