import type { ItemSpec } from './option-table.js'

/**
 * Whether this is exactly what browsers send as `Origin`: scheme, host and port of a URL, nothing after. Origins are
 * compared as strings, so a default port or a capital letter would never match. The URL parser accepts `*` in a host.
 */
export function isOrigin (value: string): boolean {
  return URL.canParse(value) && new URL(value).origin === value && !value.includes('*')
}

/** An item of an option that lists origins. */
export const ORIGIN: ItemSpec<string> = Object.freeze({
  kind: 'string',
  pattern: { test: isOrigin },
  expected: 'an exact origin such as "https://app.example.org", with nothing after the host and port'
})
