import type { AddressInfo, Server } from 'node:net'
import { networkInterfaces } from 'node:os'
import { isLoopback } from '../mediamtx/config-file.js'
import type { StreamHosts } from '../mediamtx/stream-urls.js'
import type { Settings } from './settings.js'

/** Where clients reach the media server. */
export function streamHosts ({ config: { server, mediamtx }, tls }: Settings): StreamHosts {
  return {
    host: advertisedHost(server.host, server.public_host),
    scheme: tls === null ? 'http' : 'https',
    rtspPort: mediamtx.rtsp_port,
    hlsPort: mediamtx.hls_port,
    webrtcPort: mediamtx.webrtc_port
  }
}

/** URLs of the page, the JSON-RPC API and the health report. */
export interface ServiceAddresses { readonly page: string, readonly rpc: string, readonly health: string }

export function addressesOf (
  { scheme, host }: StreamHosts, port: number, rpcPath: string, healthPort: number
): ServiceAddresses {
  return {
    page: `${scheme}://${inUrl(host)}:${port}/`,
    rpc: `${scheme === 'http' ? 'ws' : 'wss'}://${inUrl(host)}:${port}${rpcPath}`,
    // The health port has no TLS.
    health: `http://${inUrl(host)}:${healthPort}/health/system`
  }
}

/** The port on which a server listens. It differs from the setting when that is 0. */
export function portOf ({ server }: { readonly server: Server }): number {
  return (server.address() as AddressInfo).port
}

/**
 * The host for URLs that clients receive: the configured one, else the bound one, else (when bound to all interfaces)
 * this machine's first external IPv4 address.
 */
export function advertisedHost (bound: string, configured: string): string {
  if (configured !== '') return configured
  if (!isWildcard(bound)) return bound
  const external = Object.values(networkInterfaces())
    .flat()
    .find(address => address !== undefined && !address.internal && address.family === 'IPv4')
  return external?.address ?? '127.0.0.1'
}

/** The host through which this service itself connects to a port bound on `bound`. */
export function localHost (bound: string): string {
  return isWildcard(bound) || bound === 'localhost' ? '127.0.0.1' : bound
}

export function isWildcard (host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

/** Origins from which a browser may have loaded the page. */
export function pageOrigins (scheme: 'http' | 'https', port: number, bound: string, advertised: string): string[] {
  return hostsOf(bound, advertised).map(host => `${scheme}://${inUrl(host)}:${port}`)
}

/** Origins of the media server that the page may need to connect to. */
export function mediaOrigins (
  scheme: 'http' | 'https',
  ports: readonly number[],
  bound: string,
  advertised: string
): string[] {
  return hostsOf(bound, advertised).flatMap(host => ports.map(port => `${scheme}://${inUrl(host)}:${port}`))
}

/** Puts an IPv6 address in brackets (RFC 3986 section 3.2.2). */
export function inUrl (host: string): string {
  return host.includes(':') ? `[${host}]` : host
}

function hostsOf (bound: string, advertised: string): string[] {
  return [...new Set([advertised, ...(isLoopback(bound) || isWildcard(bound) ? ['127.0.0.1', 'localhost'] : [bound])])]
}
