import { isIPv4, isIPv6 } from 'node:net'

/**
 * The key under which one client is counted. An IPv4 address is its own key, also when mapped into IPv6. An IPv6
 * address counts by its /64 prefix, because one subscriber owns all of it. Ports and zones are removed. Anything that
 * is not an address becomes `unknown`, so that malformed values do not get a fresh budget each.
 */
export function addressKey (address: string | null | undefined): string {
  if (typeof address !== 'string' || address.length > 80) return 'unknown'
  const host = stripPort(address)
  if (isIPv4(host)) return host
  const zone = host.indexOf('%')
  const plain = zone === -1 ? host : host.slice(0, zone)
  if (!isIPv6(plain)) return 'unknown'
  const groups = expand(plain)
  if (groups.slice(0, 5).every(group => group === 0) && groups[5] === 0xffff) return dotted(groups[6]!, groups[7]!)
  return `${groups.slice(0, 4).map(group => group.toString(16)).join(':')}::/64`
}

function stripPort (address: string): string {
  if (address.startsWith('[')) return address.slice(1, Math.max(1, address.indexOf(']')))
  const colon = address.indexOf(':')
  const isPort = colon !== -1 && colon === address.lastIndexOf(':')
  return isPort ? address.slice(0, colon) : address
}

/** The eight groups of a valid IPv6 address. */
function expand (address: string): number[] {
  const [head = '', tail] = address.split('::')
  const left = groupsOf(head)
  if (tail === undefined) return left
  const right = groupsOf(tail)
  return [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right]
}

function groupsOf (part: string): number[] {
  if (part === '') return []
  return part.split(':').flatMap(group => {
    if (!group.includes('.')) return [parseInt(group, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
    return [a * 256 + b, c * 256 + d]
  })
}

function dotted (high: number, low: number): string {
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}
