import type { MediaMtxSearch } from './mediamtx/binary.js'
import { isLoopback } from './mediamtx/config-file.js'
import type { Settings } from './settings/settings.js'
import type { TlsListener } from './tls/tls-listener.js'

export interface StartFacts {
  readonly settings: Settings
  readonly tls: TlsListener | null
  /** The version of ffmpeg; null when it cannot be run. */
  readonly ffmpeg: string | null
  readonly search: MediaMtxSearch
}

/** Problems that do not prevent the service from running, as sentences for an operator. */
export function startWarnings ({ settings, tls, ffmpeg, search }: StartFacts): string[] {
  const { host } = settings.config.server
  const warnings = [...tls?.warnings ?? []]
  if (tls === null && !isLoopback(host)) {
    warnings.push(
      `server.host ${host} opens every port to the network without TLS, so others can read tokens and video. Set ` +
        'security.ssl.enabled.'
    )
  }
  if (ffmpeg === null) {
    warnings.push(
      'ffmpeg cannot be run: install it (Debian, Ubuntu: apt-get install ffmpeg). Until then, local cameras, ' +
        'snapshots and the test pattern do not work.'
    )
  }
  if (search.binary === null) {
    const tried = search.tried.length === 0 ? '' : ` (${search.tried.join('; ')})`
    warnings.push(
      `MediaMTX was not found: run "npm run setup", or set mediamtx.binary or MEDIAMTX_BIN${tried}. Until then, no ` +
        'video can be played.'
    )
  }
  return warnings
}
