import { networkInterfaces } from 'node:os'
import { isLoopback } from '../mediamtx/config-file.js'

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
