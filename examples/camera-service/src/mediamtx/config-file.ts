import { writeFile } from 'node:fs/promises'

/** Network settings of the media server from `camera-service.yaml`. */
export interface MediaMtxNetwork {
  /** Address of the viewers' ports. The Control API, metrics and playback always listen on loopback. */
  readonly host: string
  readonly rtspPort: number
  readonly hlsPort: number
  readonly webrtcPort: number
  readonly webrtcUdpPort: number
  readonly apiPort: number
  readonly metricsPort: number
  readonly playbackPort: number
  /** Host names and addresses at which browsers reach the WebRTC port, in addition to those of the interfaces. */
  readonly webrtcHosts: readonly string[]
  /** Origins of pages that may play HLS and WebRTC. */
  readonly allowedOrigins: readonly string[]
  /** PEM files for HLS and WebRTC signalling over https; null for plain http. */
  readonly tls: { readonly certFile: string, readonly keyFile: string } | null
}

const LOOPBACK = '127.0.0.1'

/** The configuration that MediaMTX starts with, written as JSON, which is valid YAML. The reconciler adds the paths. */
export function mediaMtxConfig (network: MediaMtxNetwork, authUrl: string): Readonly<Record<string, unknown>> {
  const at = (port: number): string => `${network.host.includes(':') ? `[${network.host}]` : network.host}:${port}`
  const local = (port: number): string => `${LOOPBACK}:${port}`
  const onLoopback = isLoopback(network.host)
  return {
    logLevel: 'info',
    logDestinations: ['stdout'],
    authMethod: 'http',
    authHTTPAddress: authUrl,
    authHTTPExclude: [],
    api: true,
    apiAddress: local(network.apiPort),
    apiAllowOrigins: [],
    metrics: true,
    metricsAddress: local(network.metricsPort),
    metricsAllowOrigins: [],
    playback: true,
    playbackAddress: local(network.playbackPort),
    playbackAllowOrigins: [],
    rtsp: true,
    rtspTransports: ['tcp'],
    rtspAddress: at(network.rtspPort),
    hls: true,
    hlsAddress: at(network.hlsPort),
    hlsAllowOrigins: network.allowedOrigins,
    ...encryption('hls', network.tls),
    webrtc: true,
    webrtcAddress: at(network.webrtcPort),
    webrtcLocalUDPAddress: at(network.webrtcUdpPort),
    webrtcAllowOrigins: network.allowedOrigins,
    ...encryption('webrtc', network.tls),
    // On loopback, MediaMTX would offer interface addresses to browsers although it does not listen there.
    webrtcIPsFromInterfaces: !onLoopback,
    webrtcAdditionalHosts: onLoopback ? [LOOPBACK] : network.webrtcHosts,
    rtmp: false,
    srt: false,
    moq: false,
    pprof: false,
    paths: {}
  }
}

function encryption (server: 'hls' | 'webrtc', tls: MediaMtxNetwork['tls']): Readonly<Record<string, unknown>> {
  return tls === null
    ? {}
    : { [`${server}Encryption`]: true, [`${server}ServerCert`]: tls.certFile, [`${server}ServerKey`]: tls.keyFile }
}

export async function writeMediaMtxConfig (file: string, config: Readonly<Record<string, unknown>>): Promise<void> {
  await writeFile(file, JSON.stringify(config, null, 2) + '\n', { mode: 0o600 })
}

export function isLoopback (host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}
