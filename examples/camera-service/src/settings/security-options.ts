import type { RedisConnection } from '@marty/redis'
import type { SecurityOptions } from '@marty/security'
import { apiKeyOptions, tokenOptions } from './credentials.js'
import type { Settings } from './settings.js'
import type { Secrets } from './secrets.js'
import { version } from './version.js'

const MINUTE_MS = 60_000
const DAY_SECONDS = 86_400

/** Translates the settings of `camera-service.yaml` into options of the security plugins. */
export function securityOptions (settings: Settings, secrets: Secrets, redis: RedisConnection | null): SecurityOptions {
  const { config } = settings
  const { jwt, sessions } = config.security
  const { requests_per_minute: perMinute, failed_logins_per_5_minutes: failedLogins } = config.security.rate_limiting
  return {
    environment: config.environment,
    auth: {
      ...tokenOptions(settings, secrets),
      apiKeys: apiKeyOptions(settings, secrets),
      sessions: {
        idleSeconds: sessions.idle_minutes * 60,
        absoluteSeconds: sessions.max_hours * 3_600,
        trustedOrigins: config.server.allowed_origins
      },
      refresh:
        jwt.refresh_days === 0
          ? false
          : {
              secret: secrets.refresh,
              idleSeconds: jwt.refresh_days * DAY_SECONDS,
              absoluteSeconds: Math.max(30, jwt.refresh_days) * DAY_SECONDS,
              // Clients of this service sign in with API keys; refresh_days sets how long they stay signed in.
              clientCredentials: true
            },
      ...(redis === null ? {} : { store: { redis: redis.client } }),
      // Pages that may connect may also sign out.
      trustedOrigins: config.server.allowed_origins.filter(isOrigin),
      routes: true
    },
    rbac: {
      policyFile: settings.policyFile,
      ...(settings.policyTests === null ? {} : { policyTests: settings.policyTests }),
      reload: {
        refuseGain: config.environment === 'production' && config.security.policy_refuse_gain ? ['production'] : []
      }
    },
    limits: {
      rules: {
        requests: { limit: perMinute, windowMs: MINUTE_MS, by: 'principal' },
        'failed-logins': { limit: failedLogins, windowMs: 5 * MINUTE_MS, by: 'address' }
      },
      apply: { http: ['requests'], rpc: ['requests'] },
      onAuthenticationFailure: ['failed-logins'],
      ...(redis === null ? {} : { store: { redis: redis.client } })
    },
    headers: { ...(config.security.ssl.hsts ? {} : { hsts: false }) },
    audit: {
      sink: { file: settings.auditFile, mode: 'async', retention: { maxAgeSeconds: config.security.audit.keep_days * 86_400 } },
      checkpoints: { key: secrets.auditKey },
      product: { name: 'camera-service', version }
    }
  }
}

/** `allowed_origins` may also contain values such as `file://`, which are only valid for WebSocket clients. */
function isOrigin (value: string): boolean {
  return URL.canParse(value) && new URL(value).origin === value
}
