import { BlockList, isIP } from 'node:net'

/** Whether an address is in one of the networks; an IPv4 address counts as itself also when it is mapped into IPv6. */
export type Networks = (address: string | null) => boolean

/** Null for a list of which an entry is not a network. */
export function readNetworks (cidrs: readonly string[]): Networks | null {
  const list = new BlockList()
  for (const cidr of cidrs) {
    const [address = '', bits = '', ...rest] = cidr.split('/')
    const family = isIP(address)
    // A zone would be taken for none, and let in more than was written down.
    if (
      family === 0 ||
      address.includes('%') ||
      rest.length > 0 ||
      !/^\d{1,3}$/.test(bits) ||
      Number(bits) > (family === 4 ? 32 : 128)
    ) {
      return null
    }
    list.addSubnet(address, Number(bits), family === 4 ? 'ipv4' : 'ipv6')
  }
  return address => {
    const plain = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address ?? '')?.[1] ?? address ?? ''
    const family = isIP(plain)
    return family !== 0 && list.check(plain, family === 4 ? 'ipv4' : 'ipv6')
  }
}
