import { pathOf } from './path-spec.js'

/** Where one camera can be watched. */
export interface StreamUrls {
  readonly rtsp: string
  readonly hls: string
  /** WHEP endpoint (RFC 9725): a browser posts its offer here. */
  readonly webrtc: string
}

export interface StreamHosts {
  readonly host: string
  /** How HLS and WebRTC signalling are served. RTSP has no TLS. */
  readonly scheme: 'http' | 'https'
  readonly rtspPort: number
  readonly hlsPort: number
  readonly webrtcPort: number
}

/** URLs of a camera; with a token they play until it expires, without one they only say where. */
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
