import { hash } from 'node:crypto'

/** Begins the keys of a store that says nothing else. */
export const DEFAULT_PREFIX = 'marty:limit'

/** Slots of a cluster that a prefix's logs are spread over. */
export const GROUPS = 64

/** The key of one log, and its group: logs of one group share a slot of the cluster. */
export interface LogName {
  readonly key: string
  readonly group: number
}

/**
 * Where the log of a budget lives. What clients supply enters it hashed, at a fixed length. The form is part of the
 * name, so that a rule whose limit grows past the packed form begins anew instead of failing on what it finds.
 */
export function logName (prefix: string, isCluster: boolean, rule: string, subject: string, isList: boolean): LogName {
  const digest = hash('sha256', subject, 'base64url')
  const group = isCluster ? parseInt(hash('sha256', digest, 'hex').slice(0, 4), 16) % GROUPS : 0
  const tag = isCluster ? `{${prefix}:${group}}` : `{${prefix}}`
  return { key: `${tag}:${rule}${isList ? ':l' : ''}:${digest.slice(0, 22)}`, group }
}
