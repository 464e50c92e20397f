import { readdirSync } from 'node:fs'

/** Every line of these packages is run by their own tests; `npm run test:coverage` fails when one is not. */
const MEASURED = ['auth', 'redis', 'audit']

/** Which sources a test file is measured against. */
export default test => {
  const name = MEASURED.find(one => test.startsWith(`packages/${one}/`))
  if (name === undefined) return null
  return readdirSync(`packages/${name}/src`, { recursive: true })
    .filter(file => file.endsWith('.ts'))
    .map(file => `packages/${name}/src/${file}`)
}
