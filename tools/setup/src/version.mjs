/**
 * Compares two dotted versions by their numbers. A leading `v` and anything after the numbers (`-rc1`, `+dirty`) are
 * ignored.
 *
 * @param {string} a
 * @param {string} b
 * @returns {number} negative when a is older, 0 when equal, positive when a is newer
 */
export function compareVersions (a, b) {
  const left = parseVersion(a)
  const right = parseVersion(b)
  for (let i = 0; i < 3; i++) {
    if (left[i] !== right[i]) return Number(left[i]) - Number(right[i])
  }
  return 0
}

/**
 * @param {string} text
 * @returns {number[]} major, minor, patch
 */
function parseVersion (text) {
  const match = /^v?(\d+)(?:\.(\d+))?(?:\.(\d+))?/.exec(text)
  if (match === null) throw new TypeError('Not a version: ' + JSON.stringify(text))
  return [1, 2, 3].map((group) => Number(match[group] || 0))
}
