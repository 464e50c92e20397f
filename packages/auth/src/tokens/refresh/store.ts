/** Lifetimes of families and their tokens, and the maximum number of families. */
export interface RefreshLimits {
  readonly idleSeconds: number
  readonly absoluteSeconds: number
  readonly graceSeconds: number
  /** Maximum number of families of one owner. */
  readonly maxPerSubject: number
}

/** A stored family. It contains nothing that can be used as a token. */
export interface RefreshFamily {
  /** The data given at creation. */
  readonly data: string
  /** Hash of the currently valid secret. */
  readonly current: string
  /** Whether the family has ended. It is kept only until its access tokens are revoked too. */
  readonly isEnded: boolean
  /** When it ends if it is not used. Milliseconds since the epoch. */
  readonly expiresAt: number
}

export interface NewRefreshFamily {
  readonly sid: string
  /** Hash of the owner. All families of an owner count together. */
  readonly owner: string
  readonly current: string
  readonly data: string
  /**
   * The latest time at which it ends, because its source ends then; null for none. Milliseconds since
   * the epoch.
   */
  readonly notAfter: number | null
}

export interface CreatedRefreshFamily {
  /** When it ends if it is not used. Milliseconds since the epoch. */
  readonly expiresAt: number
  /** The owner's families that were removed to make room, least recently used first. */
  readonly displaced: ReadonlyArray<{ readonly sid: string, readonly data: string }>
}

export interface RefreshRotation {
  /**
   * `reused`: the presented secret is neither the current one nor its predecessor within the grace
   * period, so the family has ended.
   * `revoked`: the family had ended before.
   */
  readonly outcome: 'rotated' | 'replayed' | 'reused' | 'revoked'
  readonly data: string
  readonly expiresAt: number
}

/**
 * The store of families, by their public name. Each function is one atomic step, and returns null when
 * the family does not exist.
 */
export interface RefreshStore {
  /**
   * Adds a family. Beyond `maxPerSubject`, the owner's least recently used families are removed in the
   * same step.
   */
  create (family: NewRefreshFamily): Promise<CreatedRefreshFamily>
  rotate (sid: string, presented: string, successor: string): Promise<RefreshRotation | null>
  read (sid: string): Promise<RefreshFamily | null>
  /** Makes all tokens of a family invalid. Returns the data given at creation. */
  end (sid: string): Promise<string | null>
  /** Removes a family. True only for the caller that removed it. */
  remove (sid: string): Promise<boolean>
}
