import { spawnSync } from 'node:child_process'
import { lstatSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { join, relative, resolve, sep } from 'node:path'
import { AuditError } from './errors.js'
import type { Project, SkippedFile, SourceFile } from './finding.js'
import { blankComments } from './javascript.js'

/** Larger files are skipped, and the report names them. */
export const MAX_FILE_BYTES: number = 1024 * 1024

const NOT_WALKED = new Set(['node_modules', 'dist', '.git'])

/** Lists and reads the files to audit. */
export function openProject (folder: string): Project {
  const directory = existingFolder(folder)
  const { top, files, tracked } = listFiles(directory)
  const names = files
    .filter(file => file.startsWith(directory + sep))
    .map(file => relative(directory, file).split(sep).join('/'))
    .sort()
  if (names.length === 0) {
    throw new AuditError('MARTY_AUDITOR_NOTHING_TO_AUDIT', tracked.known
      ? `git tracks no file in ${folder}: nothing was audited; add the files with "git add", or name another folder`
      : `there is no file to audit in ${folder}: nothing was audited`)
  }
  const sources: SourceFile[] = []
  const skipped: SkippedFile[] = []
  for (const file of names) {
    const read = readText(join(directory, file))
    if ('reason' in read) skipped.push({ file, reason: read.reason })
    else sources.push({ file, text: read.text, ...viewsOf(file, read.text) })
  }
  return { directory, top, tracked, names, everywhere: new Set(files), sources, skipped }
}

function existingFolder (folder: string): string {
  const stats = statSync(folder, { throwIfNoEntry: false })
  if (stats === undefined) throw new AuditError('MARTY_AUDITOR_FOLDER_UNREADABLE', `there is no folder ${folder}`)
  if (!stats.isDirectory()) {
    throw new AuditError('MARTY_AUDITOR_FOLDER_UNREADABLE', `${folder} is not a folder; name the folder to audit`)
  }
  return realpathSync(resolve(folder))
}

function listFiles (directory: string): { top: string, files: readonly string[], tracked: Project['tracked'] } {
  const where = git(directory, ['rev-parse', '--show-toplevel'])
  if (!where.ok) return { top: directory, files: walk(directory), tracked: { known: false, reason: where.reason } }
  const top = realpathSync(where.output.replace(/\n$/, ''))
  const list = git(top, ['ls-files', '-z'])
  if (!list.ok) return { top: directory, files: walk(directory), tracked: { known: false, reason: list.reason } }
  // Git lists a file with a merge conflict once for each side.
  return {
    top,
    files: [...new Set(list.output.split('\0').filter(name => name !== ''))].map(name => join(top, name)),
    tracked: { known: true }
  }
}

function git (
  directory: string,
  args: readonly string[]
): { ok: true, output: string } | { ok: false, reason: string } {
  // A git hook sets GIT_DIR and similar variables. They would make git use another repository, not that of this folder.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('GIT_')))
  const { status, stdout, stderr, error } = spawnSync('git', ['-C', directory, ...args], {
    encoding: 'utf8',
    env: { ...env, LC_ALL: 'C' },
    maxBuffer: 1024 * 1024 * 1024
  })
  if (error !== undefined) {
    return {
      ok: false,
      reason:
        'code' in error && error.code === 'ENOENT'
          ? 'git is not installed'
          : `git could not run: ${error.message}`
    }
  }
  if (status === 0) return { ok: true, output: stdout }
  return {
    ok: false,
    reason: stderr.includes('not a git repository')
      ? 'not a git repository'
      : `git: ${stderr.split('\n')[0] ?? 'failed'}`
  }
}

function walk (folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return NOT_WALKED.has(entry.name) ? [] : walk(path)
    return [path]
  })
}

function readText (path: string): { text: string } | { reason: string } {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return { reason: 'not in the working tree' }
  if (stats.isSymbolicLink()) return { reason: 'symbolic link' }
  if (!stats.isFile()) return { reason: 'not a regular file' }
  if (stats.size > MAX_FILE_BYTES) return { reason: `larger than ${MAX_FILE_BYTES / 1024 / 1024} MiB` }
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    return { reason: `cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})` }
  }
  return bytes.includes(0) ? { reason: 'binary' } : { text: bytes.toString('utf8') }
}

function viewsOf (file: string, text: string): Pick<SourceFile, 'uncommented' | 'code' | 'language'> {
  if (/\.(?:[cm]?[jt]sx?)$/i.test(file)) return { ...blankComments(text), language: 'javascript' }
  if (/\.(?:md|markdown)$/i.test(file)) return { uncommented: text, code: text, language: 'markdown' }
  const uncommented = text.replace(/^[ \t]*#.*$/gm, line => ' '.repeat(line.length))
  return { uncommented, code: uncommented, language: 'other' }
}
