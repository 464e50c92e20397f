import t from 'tap'
import fc from 'fast-check'
import { addressKey } from '@marty/core'

t.test('an address as one client counts', async t => {
  const cases: Array<[string | null | undefined, string]> = [
    [null, 'unknown'],
    [undefined, 'unknown'],
    ['', 'unknown'],
    ['localhost', 'unknown'],
    ['1.2.3', 'unknown'],
    ['1.2.3.256', 'unknown'],
    ['[::1', 'unknown'],
    ['[]', 'unknown'],
    ['x'.repeat(1_000_000), 'unknown'],
    ['1.2.3.4, 5.6.7.8', 'unknown'],
    ['192.0.2.1', '192.0.2.1'],
    ['192.0.2.1:443', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:c000:201', '192.0.2.1'],
    ['[::ffff:192.0.2.1]:80', '192.0.2.1'],
    ['0:0:0:0:0:ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0DB8:0001:0002::', '2001:db8:1:2::/64'],
    ['[2001:db8:1:2::9]:8080', '2001:db8:1:2::/64'],
    ['2001:db8::', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['1:2:3:4:5:6:7::', '1:2:3:4::/64']
  ]
  for (const [address, expected] of cases) t.equal(addressKey(address), expected, String(address).slice(0, 40))
})

t.test('every spelling of an IPv6 address is in its /64, and never in another', async t => {
  fc.assert(fc.property(fc.ipV6(), address => {
    const { hostname } = new URL(`http://[${address}]`)
    return addressKey(address) === addressKey(hostname)
  }))
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 }), groups => {
    const text = groups.map(group => group.toString(16))
    return (
      groups.slice(0, 4).every(group => group === 0) ||
      addressKey(text.join(':')) === `${text.slice(0, 4).join(':')}::/64`
    )
  }))
  t.pass('for any address')
})
