import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { runCommandLine } from '@marty/cli'

export const marty: string = fileURLToPath(new URL('../dist/marty.js', import.meta.url))

export interface Answer { readonly code: number | null, readonly out: string, readonly err: string }

/** In this process. */
export async function run (...args: string[]): Promise<Answer> {
  let out = ''
  let err = ''
  const code = await runCommandLine(args, { out: text => { out += text }, err: text => { err += text } })
  return { code, out, err }
}

/** As from a shell. */
export async function runAsChild (args: readonly string[], { input = '', env = {}, cwd }: { readonly input?: string, readonly env?: Readonly<Record<string, string>>, readonly cwd?: string } = {}): Promise<Answer> {
  const child = spawn(process.execPath, [marty, ...args], { cwd, env: { ...process.env, ...env } })
  let out = ''
  let err = ''
  child.stdout.on('data', chunk => { out += String(chunk) })
  child.stderr.on('data', chunk => { err += String(chunk) })
  child.stdin.end(input)
  return await new Promise(resolve => { child.once('close', code => { resolve({ code, out, err }) }) })
}
