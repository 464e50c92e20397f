import { execFile } from 'node:child_process'
import { access, constants, readFile, rm, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import type { FastifyBaseLogger } from 'fastify'
import { childEnvironment } from '../process/environment.js'
import { startChild, type Child } from '../process/child.js'
import { redactUrls } from '../process/redact-urls.js'

/** Oldest MediaMTX version whose Control API has the fields that we read. */
const MINIMUM = [1, 17] as const
const BACKOFF_MS = [100, 500, 1000, 2000, 5000, 10_000]

/** A MediaMTX program with a supported version. */
export interface MediaMtxBinary { readonly path: string, readonly version: string }

/**
 * Finds MediaMTX: only the configured path if there is one, otherwise `mediamtx` on the search path, then the copy that
 * setup has built or downloaded. `binary` is null, with the reasons in `tried`, when none is usable.
 */
export async function findMediaMtx (
  configured: string,
  searchPath: string,
  setupDir: string
): Promise<{ binary: MediaMtxBinary | null, tried: readonly string[] }> {
  const candidates =
    configured !== ''
      ? [configured]
      : [
          ...searchPath
            .split(delimiter)
            .filter(dir => dir !== '')
            .map(dir => join(dir, 'mediamtx')),
          join(setupDir, 'mediamtx')
        ]
  const tried: string[] = []
  for (const path of candidates) {
    try {
      await access(path, constants.X_OK)
    } catch {
      if (path === configured) tried.push(`${path} is not there or cannot be run`)
      continue
    }
    try {
      const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: 10_000, env: childEnvironment() })
      const version = /v?(\d+)\.(\d+)\.(\d+)/.exec(stdout)
      if (
        version !== null &&
        (Number(version[1]) > MINIMUM[0] || (Number(version[1]) === MINIMUM[0] && Number(version[2]) >= MINIMUM[1]))
      ) {
        return { binary: { path, version: version[0] }, tried }
      }
      tried.push(`${path} is ${version?.[0] ?? 'of an unknown version'}; at least v${MINIMUM.join('.')}.0 is needed`)
    } catch {
      tried.push(`${path} did not answer --version`)
    }
  }
  return { binary: null, tried }
}

export interface ProcessOptions {
  readonly binary: MediaMtxBinary
  readonly configFile: string
  /** Writes the configuration file. Called before every start, so that changes to the file by others do not persist. */
  readonly prepare: () => Promise<void>
  /** Stores the process id, so that after a crash of this service the next start can end the old process. */
  readonly pidFile: string
  readonly log: FastifyBaseLogger
  /** Called after each start of the process. */
  readonly onStarted?: () => void
}

/** A supervised MediaMTX process. It is restarted whenever it ends, until `stop` is called. */
export interface MediaMtxProcess {
  start (): Promise<void>
  readonly pid: number | null
  readonly restarts: number
  /** Ends a process that no longer responds, so that a new one is started. */
  replace (): void
  stop (): Promise<void>
}

export function superviseMediaMtx ({
  binary, configFile, prepare, pidFile, log, onStarted
}: ProcessOptions): MediaMtxProcess {
  let child: Child | null = null
  let restarts = 0
  let quick = 0
  let stopping = false
  let timer: NodeJS.Timeout | undefined

  async function launch (): Promise<void> {
    await prepare()
    const startedAt = Date.now()
    const current = await startChild({ command: binary.path, args: [configFile], onLine: relay })
    child = current
    // stop() may have been called while the program was being started. It did not know this process, so end it here.
    if (stopping) {
      await current.stop()
      return
    }
    await writeFile(pidFile, String(current.pid), { mode: 0o600 })
    log.info({ pid: current.pid, version: binary.version }, 'MediaMTX started')
    onStarted?.()
    void current.ended.then(({ code, signal }) => {
      child = null
      if (stopping) return
      quick = Date.now() - startedAt > 30_000 ? 0 : quick + 1
      const delayMs = BACKOFF_MS[Math.min(quick - 1, BACKOFF_MS.length - 1)] ?? 0
      restarts++
      log.error({ code, signal, delayMs }, 'MediaMTX has ended; starting it again')
      timer = setTimeout(() => {
        relaunch()
      }, delayMs)
    })
  }

  function relaunch (): void {
    launch().catch((error: unknown) => {
      log.error({ err: error }, 'MediaMTX could not be started; trying again')
      if (!stopping) timer = setTimeout(relaunch, 5000)
    })
  }

  /** Logs a line of MediaMTX's output at the matching level of our log. */
  function relay (line: string): void {
    const [, level, text] = /^\S+ \S+ (DEB|INF|WAR|ERR) (.*)$/.exec(redactUrls(line)) ?? [null, 'INF', redactUrls(line)]
    if (level === 'ERR') log.error({ from: 'mediamtx' }, text)
    else if (level === 'WAR') log.warn({ from: 'mediamtx' }, text)
    else log.debug({ from: 'mediamtx' }, text)
  }

  return {
    start: launch,
    get pid () {
      return child?.pid ?? null
    },
    get restarts () {
      return restarts
    },
    replace () {
      log.error({ pid: child?.pid }, 'MediaMTX does not answer any more; ending it')
      void child?.stop(1)
    },
    async stop () {
      stopping = true
      clearTimeout(timer)
      await child?.stop(1500)
      await rm(pidFile, { force: true })
    }
  }
}

/**
 * Ends a MediaMTX process that an earlier, killed run of this service left behind, and no other process. Returns
 * whether there was one; the kernel then closes its ports a moment later.
 */
export async function endLeftover (
  pidFile: string,
  binary: string,
  configFile: string,
  log: FastifyBaseLogger
): Promise<boolean> {
  const pid = Number(await readFile(pidFile, 'utf8').catch(() => ''))
  if (!Number.isInteger(pid) || pid <= 1) return false
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  if (commandLine !== `${binary}\0${configFile}\0`) return false
  log.warn({ pid }, 'ending a MediaMTX that an earlier run left behind')
  process.kill(pid, 'SIGKILL')
  return true
}
