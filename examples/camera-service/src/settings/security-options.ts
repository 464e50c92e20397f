import type { RedisConnection } from '@marty/redis'
import type { SecurityOptions } from '@marty/security'
import { apiKeyOptions, tokenOptions } from './credentials.js'
import type { Settings } from './settings.js'
import type { Secrets } from './secrets.js'
import { version } from './version.js'

const MINUTE_MS = 60_000
/** 30 days: a refresh token is not renewed beyond this, unless refresh_seconds is longer. */
const REFRESH_MAX_SECONDS = 2_592_000

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
        idleSeconds: sessions.idle_seconds,
        absoluteSeconds: sessions.max_seconds,
        trustedOrigins: config.server.allowed_origins
      },
      refresh:
        jwt.refresh_seconds === 0
          ? false
          : {
              secret: secrets.refresh,
              idleSeconds: jwt.refresh_seconds,
              absoluteSeconds: Math.max(REFRESH_MAX_SECONDS, jwt.refresh_seconds),
              // Clients of this service sign in with API keys; refresh_seconds sets how long they stay signed in.
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
    metrics: { security: { permission: 'system:metrics' } },
    headers: { ...(config.security.ssl.hsts ? {} : { hsts: false }) },
    audit: {
      sink: { file: settings.auditFile, mode: 'async', retention: { maxAgeSeconds: config.security.audit.keep_seconds } },
      checkpoints: { key: secrets.auditKey },
      product: { name: 'camera-service', version }
    }
  }
}

/** `allowed_origins` may also contain values such as `file://`, which are only valid for WebSocket clients. */
function isOrigin (value: string): boolean {
  return URL.canParse(value) && new URL(value).origin === value
}
