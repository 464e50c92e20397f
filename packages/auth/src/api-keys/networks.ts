import { BlockList, isIP } from 'node:net'

/** Whether an address is in one of the networks. An IPv4 address mapped into IPv6 counts as IPv4. */
export type Networks = (address: string | null) => boolean

/** Parses a list of networks; null when an entry is not a network. */
export function readNetworks (cidrs: readonly string[]): Networks | null {
  const list = new BlockList()
  for (const cidr of cidrs) {
    const [address = '', bits = '', ...rest] = cidr.split('/')
    const family = isIP(address)
    // Refuse a zone: it would be ignored, and the network would allow more addresses than written.
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
