import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Everything planted is put together here at run time, so that no source of this repository looks like a mistake. */
export const random32: string = ['q7Zt', 'B2xK', '9vLm', 'W4pR', 'c8Yd', 'H3nF', 's6Gj', 'T1aE'].join('')
const dashes = '-'.repeat(5)
export const pem = (kind: string, body: string): string =>
  `${dashes}BEGIN ${kind}PRIVATE KEY${dashes}\n${body}\n${dashes}END ${kind}PRIVATE KEY${dashes}\n`

/** A folder with these files; tracked by git unless told otherwise. */
export function folderOf (
  t: { teardown: (handler: () => void) => void },
  files: Readonly<Record<string, string | Buffer>>,
  { git = true }: { readonly git?: boolean } = {}
): string {
  const folder = mkdtempSync(join(tmpdir(), 'marty-security-audit-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), content)
  }
  if (git) track(folder)
  return folder
}

export function track (folder: string): void {
  runGit(folder, 'init', '--quiet')
  runGit(folder, 'add', '--force', '--all')
}

function runGit (folder: string, ...args: readonly string[]): void {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('GIT_')))
  execFileSync('git', ['-C', folder, ...args], { env, stdio: 'pipe' })
}

export function link (target: string, path: string): void {
  mkdirSync(dirname(path), { recursive: true })
  symlinkSync(target, path)
}

const command = fileURLToPath(new URL('../dist/main.js', import.meta.url))

/** Runs the compiled command as a child process. */
export function runCommand (...args: readonly string[]): Promise<Ended> {
  return run(process.execPath, [command, ...args])
}

export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

export function run (
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {}
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    let out = ''
    let err = ''
    child.stdout.setEncoding('utf8').on('data', text => {
      out += text
    })
    child.stderr.setEncoding('utf8').on('data', text => {
      err += text
    })
    child.on('error', reject).on('close', code => {
      resolve({ code, out, err })
    })
  })
}
