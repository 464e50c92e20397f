import { parse, serialize } from 'cookie'
import type { IncomingMessage } from 'node:http'
import { SESSION_ID } from './id.js'

export interface SessionCookieOptions {
  /**
   * Must begin with `__Host-`. Browsers then accept the cookie only from this host, over HTTPS and for
   * all paths (RFC 6265bis section 4.1.3.2), so no other subdomain can set one.
   * @default '__Host-session'
   */
  readonly name?: string
  /**
   * With `Lax`, the browser also sends the cookie when a link on another site opens a page.
   * @default 'Strict'
   */
  readonly sameSite?: 'Strict' | 'Lax'
}

export type ResolvedSessionCookie = Required<SessionCookieOptions>

/** The cookie that carries a session: `fastify.auth.sessionCookie`. */
export interface SessionCookie {
  readonly name: string
  /** `Set-Cookie` header that stores the session until the browser is closed. */
  of (session: { readonly id: string }): string
  /** `Set-Cookie` header that removes the cookie. */
  readonly cleared: string
  /**
   * Returns the session id in the `Cookie` header, or null when there is no such cookie. Returns `''`
   * when the value is not a valid id, or when the cookie occurs twice: a browser keeps only one per
   * host, so something else added the other, and the service cannot know which one is genuine.
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
      // Do not percent-decode: each session id has exactly one spelling.
      const value = parse(header, { decode: text => text })[name]
      if (value === undefined) return null
      return SESSION_ID.test(value) && isAlone(name, header) ? value : ''
    }
  })
}

function isAlone (name: string, header: string): boolean {
  return header.split(';').filter(pair => pair.split('=', 1)[0]!.trim() === name).length === 1
}
