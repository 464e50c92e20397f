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

/**
 * Returns the npm packages that a program loads, sorted; those of the workspace are not among them. The program is the
 * text of an ES module, run as if it stood in the folder of `from`, the `import.meta.url` of the test.
 */
export async function loadedPackages (program: string, from: string): Promise<readonly string[]> {
  const script = `
    import { createRequire, register } from 'node:module'
    register(${JSON.stringify(PRINT_LOADED)})
    ${program}
    console.log(Object.keys(createRequire(import.meta.url).cache).join('\\n'))
  `
  const cwd = fileURLToPath(new URL('.', from))
  // `env -i`, because the test runner loads packages into every child process by an environment variable.
  const command = ['-i', process.execPath, '--input-type=module', '--no-warnings', '-e', script]
  const { stdout } = await run('env', command, { cwd, maxBuffer: 2 ** 24 })
  const names = stdout.split('\n').map(file => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1])
  return [...new Set(names.filter(name => name !== undefined))].sort()
}
