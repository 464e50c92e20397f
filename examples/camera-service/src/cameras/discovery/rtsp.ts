import { createHash } from 'node:crypto'
import type { Discovery } from '../camera.js'

export interface ConfiguredCamera { readonly name: string, readonly url: string }

/** Network cameras, as the configuration lists them. MediaMTX pulls their streams. */
export function configuredRtsp (cameras: readonly ConfiguredCamera[]): Discovery {
  const found = cameras.map(({ name, url }) => ({
    // The address is the identity; a changed password must not make a new camera.
    stableKey: `rtsp:${createHash('sha256').update(withoutCredentials(url)).digest('hex').slice(0, 32)}`,
    name,
    source: { kind: 'rtsp' as const, url },
    mode: null
  }))
  return { name: 'rtsp', async find () { return found } }
}

function withoutCredentials (url: string): string {
  const parsed = new URL(url)
  parsed.username = ''
  parsed.password = ''
  return parsed.href
}
