import { isIPv4, isIPv6 } from 'node:net'

/** What counts as one caller: an IPv4 address, or the /64 network that one IPv6 customer owns whole. */
export function addressKey (address: string): string {
  if (!isIPv6(address)) return address
  const bare = address.split('%')[0]!.toLowerCase()
  const mapped = bare.startsWith('::ffff:') ? bare.slice(7) : ''
  if (isIPv4(mapped)) return mapped
  const [head = '', tail] = bare.split('::')
  const left = groupsOf(head)
  const right = tail === undefined ? [] : groupsOf(tail)
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => '0')
  return `${[...left, ...zeros, ...right].slice(0, 4).map(group => parseInt(group, 16).toString(16)).join(':')}::/64`
}

function groupsOf (text: string): string[] {
  // The last 32 bits may be written as an IPv4 address; they never reach the first four groups.
  return text === '' ? [] : text.split(':').flatMap(group => group.includes('.') ? ['0', '0'] : [group])
}
