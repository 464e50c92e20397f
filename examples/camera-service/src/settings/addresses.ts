import { networkInterfaces } from 'node:os'
import { isLoopback } from '../mediamtx/config-file.js'

/** The host to put into URLs for clients: as configured, as bound, or this machine's first address on a network. */
export function advertisedHost (bound: string, configured: string): string {
  if (configured !== '') return configured
  if (!isWildcard(bound)) return bound
  const external = Object.values(networkInterfaces())
    .flat()
    .find(address => address !== undefined && !address.internal && address.family === 'IPv4')
  return external?.address ?? '127.0.0.1'
}

/** Where this service itself reaches a port bound on `bound`. */
export function localHost (bound: string): string {
  return isWildcard(bound) || bound === 'localhost' ? '127.0.0.1' : bound
}

export function isWildcard (host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

/** Origins under which a browser may have loaded the page. */
export function pageOrigins (scheme: 'http' | 'https', port: number, bound: string, advertised: string): string[] {
  return hostsOf(bound, advertised).map(host => `${scheme}://${inUrl(host)}:${port}`)
}

/** Origins of the media server as the page may have to reach it. */
export function mediaOrigins (
  scheme: 'http' | 'https',
  ports: readonly number[],
  bound: string,
  advertised: string
): string[] {
  return hostsOf(bound, advertised).flatMap(host => ports.map(port => `${scheme}://${inUrl(host)}:${port}`))
}

/** IPv6 addresses stand in brackets (RFC 3986 section 3.2.2). */
export function inUrl (host: string): string {
  return host.includes(':') ? `[${host}]` : host
}

function hostsOf (bound: string, advertised: string): string[] {
  return [...new Set([advertised, ...(isLoopback(bound) || isWildcard(bound) ? ['127.0.0.1', 'localhost'] : [bound])])]
}
