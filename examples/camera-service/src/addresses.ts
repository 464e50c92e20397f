import { networkInterfaces } from 'node:os'
import { isLoopback } from './mediamtx/config-file.js'

/** The host to put into URLs for clients: as configured, as bound, or this machine's first address on a network. */
export function advertisedHost (bound: string, configured: string): string {
  if (configured !== '') return configured
  if (!isWildcard(bound)) return bound
  const external = Object.values(networkInterfaces()).flat().find(address => address !== undefined && !address.internal && address.family === 'IPv4')
  return external?.address ?? '127.0.0.1'
}

/** Where this service itself reaches a port bound on `bound`. */
export function localHost (bound: string): string {
  return isWildcard(bound) || isLoopback(bound) ? '127.0.0.1' : bound
}

export function isWildcard (host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

/** Origins under which a browser may have loaded the page. */
export function pageOrigins (scheme: 'http' | 'https', port: number, bound: string, advertised: string): string[] {
  const hosts = new Set([advertised, ...(isLoopback(bound) || isWildcard(bound) ? ['127.0.0.1', 'localhost'] : [bound])])
  return [...hosts].map(host => `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`)
}
