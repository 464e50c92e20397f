import { hash } from 'node:crypto'

/** The default prefix of keys. */
export const DEFAULT_PREFIX = 'marty:limit'

/** Number of cluster slots that the windows of one prefix are spread over. */
export const GROUPS = 64

/** The key of one window, and its group: windows of one group share a slot of the cluster. */
export interface WindowName {
  readonly key: string
  readonly group: number
}

/**
 * The key of the window of a budget. Values from clients are hashed to a fixed length. The storage format is part of
 * the key, so that a rule whose limit outgrows the packed format starts with an empty window instead of failing on the
 * old one.
 */
export function windowName (
  prefix: string,
  isCluster: boolean,
  rule: string,
  subject: string,
  isList: boolean
): WindowName {
  const digest = hash('sha256', subject, 'base64url')
  const group = isCluster ? parseInt(hash('sha256', digest, 'hex').slice(0, 4), 16) % GROUPS : 0
  const tag = isCluster ? `{${prefix}:${group}}` : `{${prefix}}`
  return { key: `${tag}:${rule}${isList ? ':l' : ''}:${digest.slice(0, 22)}`, group }
}
