/** How long families and their tokens live. */
export interface RefreshLimits {
  readonly idleSeconds: number
  readonly absoluteSeconds: number
  readonly graceSeconds: number
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
  /** Answers when the family ends unless it is used, at the latest at `notAfter`, in milliseconds since the epoch. */
  create (sid: string, current: string, data: string, notAfter: number | null): Promise<number>
  rotate (sid: string, presented: string, successor: string): Promise<RefreshRotation | null>
  read (sid: string): Promise<RefreshFamily | null>
  /** From now on none of its tokens is good. Answers what it was made with. */
  end (sid: string): Promise<string | null>
  /** True for the one who removed it. */
  remove (sid: string): Promise<boolean>
}
