import t from 'tap'
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Prints the URL of each module that is loaded; the hook itself runs in a thread of its own. */
const PRINT_LOADED = 'data:text/javascript,' + encodeURIComponent(`
  import { writeSync } from 'node:fs'
  export async function load (url, context, next) {
    writeSync(1, url + '\\n')
    return await next(url, context)
  }
`)

/** Returns the npm packages that a program loads. */
async function packagesOf (program: string): Promise<readonly string[]> {
  const script = `
    import { createRequire, register } from 'node:module'
    register(${JSON.stringify(PRINT_LOADED)})
    ${program}
    console.log(Object.keys(createRequire(import.meta.url).cache).join('\\n'))
  `
  const cwd = fileURLToPath(new URL('.', import.meta.url))
  // `env -i`, because the test runner loads packages into every child process by an environment variable.
  const command = ['-i', process.execPath, '--input-type=module', '--no-warnings', '-e', script]
  const { stdout } = await run('env', command, { cwd })
  const names = stdout.split('\n').map(file => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1])
  return [...new Set(names.filter(name => name !== undefined))].sort()
}

t.test('@marty/rate-limit/fastify-rate-limit loads no package of others', async t => {
  const program = `
    const { slidingWindowStore } = await import("@marty/rate-limit/fastify-rate-limit")
    slidingWindowStore()
    slidingWindowStore({ redis: { evalsha () {}, eval () {}, callBuffer () {} } })
  `
  t.strictSame(await packagesOf(program), [])
})

t.test('the whole package loads what the plugin needs, so the test above can see it', async t => {
  t.strictSame(await packagesOf('await import("@marty/rate-limit")'), ['fastify-plugin'])
})
