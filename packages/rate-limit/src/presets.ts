import type { LimitRule } from './rule-options.js'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

/**
 * Rules for common operations. Use one by its name, `rules: { login: 'login' }`, or
 * change it: `{ ...presets.login, limit: 3 }`.
 */
export const presets: Readonly<Record<PresetName, LimitRule>> = Object.freeze({
  /** 60 calls a minute for each caller; 120 for operators, 300 for administrators. */
  default: Object.freeze({
    limit: Object.freeze({ default: 60, operator: 120, admin: 300 }),
    windowMs: MINUTE_MS,
    by: 'principal'
  }),
  /** Roles as tiers, per minute: 60, `pro` 600, `enterprise` 6000. At most a tenth of that in one second. */
  tiers: Object.freeze({
    limit: Object.freeze({ default: 60, pro: 600, enterprise: 6000 }),
    windowMs: MINUTE_MS,
    by: 'principal',
    burst: Object.freeze({ limit: Object.freeze({ default: 6, pro: 60, enterprise: 600 }), windowMs: 1000 })
  }),
  /**
   * Five attempts in five minutes per account and address: an attacker cannot lock out the owner at another address.
   */
  login: Object.freeze({ limit: 5, windowMs: 5 * MINUTE_MS, by: 'account+address', onFailure: 'local' }),
  /** Three new accounts an hour for each address. */
  register: Object.freeze({ limit: 3, windowMs: HOUR_MS, by: 'address', onFailure: 'local' }),
  /** Ten uploads an hour for each caller. */
  upload: Object.freeze({ limit: 10, windowMs: HOUR_MS, by: 'principal' }),
  /** A hundred searches in five minutes for each caller. */
  search: Object.freeze({ limit: 100, windowMs: 5 * MINUTE_MS, by: 'principal' })
})

export type PresetName = 'default' | 'tiers' | 'login' | 'register' | 'upload' | 'search'
