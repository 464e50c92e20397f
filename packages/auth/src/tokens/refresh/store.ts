/** How long families and their tokens live, and how many there may be. */
export interface RefreshLimits {
  readonly idleSeconds: number
  readonly absoluteSeconds: number
  readonly graceSeconds: number
  /** Families of one owner. */
  readonly maxPerSubject: number
}

/** A family as it is kept: nothing in it can be used as a token. */
export interface RefreshFamily {
  /** What the family was made with. */
  readonly data: string
  /** Hash of the secret that is good now. */
  readonly current: string
  /** The family is over, and only kept until its access tokens are revoked too. */
  readonly isEnded: boolean
  /** When it ends unless it is used. Milliseconds since the epoch. */
  readonly expiresAt: number
}

export interface NewRefreshFamily {
  readonly sid: string
  /** Whose it is, as a hash: all families of one owner count together. */
  readonly owner: string
  readonly current: string
  readonly data: string
  /** When it must end at the latest, because what it came from ends then. Milliseconds since the epoch; null for no such end. */
  readonly notAfter: number | null
}

export interface CreatedRefreshFamily {
  /** When it ends unless it is used. Milliseconds since the epoch. */
  readonly expiresAt: number
  /** The owner's families that were removed to make room, the one used longest ago first. */
  readonly displaced: ReadonlyArray<{ readonly sid: string, readonly data: string }>
}

export interface RefreshRotation {
  /**
   * `reused`: the presented secret is neither the current one nor its predecessor in grace, so the family has ended.
   * `revoked`: it had ended before.
   */
  readonly outcome: 'rotated' | 'replayed' | 'reused' | 'revoked'
  readonly data: string
  readonly expiresAt: number
}

/** Where families are kept, by their public name. Each function is one atomic step; null for a family that is not there. */
export interface RefreshStore {
  /** Beyond `maxPerSubject`, the owner's families used longest ago are removed in the same step. */
  create (family: NewRefreshFamily): Promise<CreatedRefreshFamily>
  rotate (sid: string, presented: string, successor: string): Promise<RefreshRotation | null>
  read (sid: string): Promise<RefreshFamily | null>
  /** From now on none of its tokens is good. Answers what it was made with. */
  end (sid: string): Promise<string | null>
  /** True for the one who removed it. */
  remove (sid: string): Promise<boolean>
}
