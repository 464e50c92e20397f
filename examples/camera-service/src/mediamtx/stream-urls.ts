import { pathOf } from './path-spec.js'

/** The URLs at which one camera can be watched. */
export interface StreamUrls {
  readonly rtsp: string
  readonly hls: string
  /** WHEP endpoint (RFC 9725): a browser posts its offer here. */
  readonly webrtc: string
}

export interface StreamHosts {
  readonly host: string
  /** The scheme of HLS and WebRTC signalling. RTSP has no TLS. */
  readonly scheme: 'http' | 'https'
  readonly rtspPort: number
  readonly hlsPort: number
  readonly webrtcPort: number
}

/** Returns the URLs of a camera. With a token, sessions can start until it expires; without one, they do not play. */
export function streamUrls (hosts: StreamHosts, cameraId: string, token: string | null): StreamUrls {
  const path = pathOf(cameraId)
  const host = hosts.host.includes(':') ? `[${hosts.host}]` : hosts.host
  const query = token === null ? '' : `?token=${token}`
  return {
    rtsp: `rtsp://${token === null ? '' : `viewer:${token}@`}${host}:${hosts.rtspPort}/${path}`,
    hls: `${hosts.scheme}://${host}:${hosts.hlsPort}/${path}/index.m3u8${query}`,
    webrtc: `${hosts.scheme}://${host}:${hosts.webrtcPort}/${path}/whep${query}`
  }
}
