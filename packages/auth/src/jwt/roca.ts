import type { KeyObject } from 'node:crypto'

/** The odd primes up to 167: enough to recognise such a modulus reliably. */
const PRIMES: readonly number[] = Array.from({ length: 83 }, (_, index) => 2 * index + 3).filter(
  n => ![3, 5, 7, 11].some(p => p < n && n % p === 0)
)

/**
 * Whether the modulus shows the pattern of the key generator of CVE-2017-15361 (ROCA). That generator
 * built primes from powers of 65537, so modulo every small prime the modulus is such a power too. By
 * chance, this happens for at most one key in 10^8.
 */
export function hasFactorableModulus (key: KeyObject): boolean {
  const modulus = BigInt(`0x${Buffer.from(key.export({ format: 'jwk' }).n!, 'base64url').toString('hex')}`)
  return PRIMES.every(prime => isPowerOf65537(Number(modulus % BigInt(prime)), prime))
}

function isPowerOf65537 (residue: number, prime: number): boolean {
  let power = 1
  do {
    if (power === residue) return true
    power = power * 65_537 % prime
  } while (power !== 1)
  return false
}
