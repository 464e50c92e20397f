import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { runCommandLine } from '@marty/cli'
import { openRedis, type RedisClient } from '@marty/redis'
import type { Test } from 'tap'
import { freePort, startRedis } from '@marty/testing'

export const marty: string = fileURLToPath(new URL('../dist/marty.js', import.meta.url))

export interface Answer {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** In this process. */
export async function run (...args: string[]): Promise<Answer> {
  let out = ''
  let err = ''
  const code = await runCommandLine(args, {
    out: text => {
      out += text
    },
    err: text => {
      err += text
    }
  })
  return { code, out, err }
}

/** As from a shell. */
export async function runAsChild (
  args: readonly string[],
  {
    input = '',
    env = {},
    cwd
  }: { readonly input?: string; readonly env?: Readonly<Record<string, string>>; readonly cwd?: string } = {}
): Promise<Answer> {
  const child = spawn(process.execPath, [marty, ...args], { cwd, env: { ...process.env, ...env } })
  let out = ''
  let err = ''
  child.stdout.on('data', chunk => {
    out += String(chunk)
  })
  child.stderr.on('data', chunk => {
    err += String(chunk)
  })
  child.stdin.end(input)
  return await new Promise(resolve => {
    child.once('close', code => {
      resolve({ code, out, err })
    })
  })
}

/** Command lines that cannot be done, each with its exit code and what is said of it. */
export type Refusals = ReadonlyArray<readonly [number, RegExp, readonly string[]]>

/** Each is told on standard error without a stack, and nothing else is written. */
export async function refuses (t: Test, cases: Refusals, secrets: readonly string[] = []): Promise<void> {
  for (const [expected, message, args] of cases) {
    const { code, out, err } = await run(...args)
    t.equal(code, expected, args.join(' '))
    t.match(err, message)
    t.equal(out, '')
    t.notMatch(err, /\n {4}at /, 'no stack')
    for (const secret of secrets) t.notOk(err.includes(secret), 'no secret')
  }
}

/** A Redis of its own, until the test is over. */
export async function ownRedis (t: Test): Promise<{ readonly url: string; readonly client: RedisClient }> {
  const server = await startRedis(await freePort())
  t.teardown(() => server.stop())
  const url = `redis://127.0.0.1:${server.port}`
  const redis = openRedis({ url, commandTimeoutMs: 2_000 })
  t.teardown(() => redis.close())
  await redis.ready(10_000)
  return { url, client: redis.client }
}
