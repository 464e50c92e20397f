import { parse, serialize } from 'cookie'
import type { IncomingMessage } from 'node:http'
import { AuthOptionInvalid } from '../errors.js'
import { SESSION_ID } from './id.js'

export interface SessionCookieOptions {
  /**
   * Must begin with `__Host-`: browsers then take the cookie from this host alone, over HTTPS, for all paths
   * (RFC 6265bis section 4.1.3.2), so that no other subdomain can plant one.
   * @default '__Host-session'
   */
  readonly name?: string
  /** `Lax` lets links from other sites open pages signed in. @default 'Strict' */
  readonly sameSite?: 'Strict' | 'Lax'
}

export type ResolvedSessionCookie = Required<SessionCookieOptions>

/** The cookie that carries a session: `fastify.sessionCookie`. */
export interface SessionCookie {
  readonly name: string
  /** `Set-Cookie` that gives the browser a session, until the browser is closed. */
  of (session: { readonly id: string }): string
  /** `Set-Cookie` that takes it away. */
  readonly cleared: string
  /**
   * The session id in the `Cookie` header; null when there is no such cookie; `''` when what is there cannot be an id,
   * or when there are two: a browser holds one per host, so somebody else has added the other, and which is which is
   * not ours to guess.
   */
  read (request: Pick<IncomingMessage, 'headers'>): string | null
}

export function createSessionCookie ({ name, sameSite }: ResolvedSessionCookie): SessionCookie {
  const attributes = {
    path: '/',
    httpOnly: true,
    secure: true,
    sameSite: sameSite === 'Lax' ? 'lax' : 'strict'
  } as const
  return Object.freeze({
    name,
    of: ({ id }: { readonly id: string }) => serialize(name, id, attributes),
    cleared: serialize(name, '', { ...attributes, maxAge: 0 }),
    read ({ headers: { cookie: header } }: Pick<IncomingMessage, 'headers'>) {
      if (header === undefined || !header.includes(name)) return null
      // As sent, not percent-decoded: one session has one spelling.
      const value = parse(header, { decode: text => text })[name]
      if (value === undefined) return null
      return SESSION_ID.test(value) && isAlone(name, header) ? value : ''
    }
  })
}

function isAlone (name: string, header: string): boolean {
  return header.split(';').filter(pair => pair.split('=', 1)[0]!.trim() === name).length === 1
}

export function resolveSessionCookie (options: SessionCookieOptions = {}): ResolvedSessionCookie {
  const { name = '__Host-session', sameSite = 'Strict' } = options ?? {}
  if (typeof name !== 'string' || !/^__Host-[\w-]{1,64}$/.test(name)) {
    throw new AuthOptionInvalid(
      'auth option "sessions.cookie.name" must be "__Host-" and 1 to 64 letters, digits, "_" or "-"'
    )
  }
  if (sameSite !== 'Strict' && sameSite !== 'Lax') {
    throw new AuthOptionInvalid('auth option "sessions.cookie.sameSite" must be "Strict" or "Lax"')
  }
  return Object.freeze({ name, sameSite })
}
