import { createHash } from 'node:crypto'
import type { Discovery } from '../camera.js'

export interface ConfiguredCamera { readonly name: string, readonly url: string }

/**
 * Network cameras from the configuration. MediaMTX pulls their streams.
 * Throws when two cameras have the same address, because the address is their identity.
 */
export function configuredRtsp (cameras: readonly ConfiguredCamera[]): Discovery {
  const found = cameras.map(({ name, url }) => ({
    // The identity does not include the credentials: a changed password must not create a new camera.
    stableKey: `rtsp:${createHash('sha256').update(withoutCredentials(url)).digest('hex').slice(0, 32)}`,
    name,
    source: { kind: 'rtsp' as const, url },
    mode: null
  }))
  for (const [index, { stableKey, name }] of found.entries()) {
    const twin = found.slice(0, index).find(other => other.stableKey === stableKey)
    if (twin !== undefined) {
      throw new Error(`cameras.network: "${twin.name}" and "${name}" have the same address: remove one of them`)
    }
  }
  return { name: 'rtsp', async find () { return found } }
}

function withoutCredentials (url: string): string {
  const parsed = new URL(url)
  parsed.username = ''
  parsed.password = ''
  return parsed.href
}
