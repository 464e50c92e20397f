import { readFile, rm, writeFile } from 'node:fs/promises'
import type { FastifyBaseLogger } from 'fastify'
import { startChild, type Child } from '../process/child.js'
import { redactUrls } from '../process/redact-urls.js'
import type { MediaMtxBinary } from './binary.js'

export interface MediaMtxProcessOptions {
  readonly binary: MediaMtxBinary
  readonly configFile: string
  /** Writes the configuration file. Called before every start, so that changes to the file by others do not persist. */
  readonly prepare: () => Promise<void>
  /** Stores the process id, so that after a crash of this service the next start can end the old process. */
  readonly pidFile: string
  readonly log: FastifyBaseLogger
  /** Called after each start of the process. */
  readonly onStarted: () => void
}

const BACKOFF_MS = [100, 500, 1000, 2000, 5000, 10_000]
/** Time until the next attempt when the program could not be started. */
const START_RETRY_MS = 5000
/** A process that ran at least this long was healthy: when it ends, it is restarted without a delay. */
const HEALTHY_MS = 30_000

/** A supervised MediaMTX process. It is restarted whenever it ends, until `stop` is called. */
export class MediaMtxProcess {
  readonly #options: MediaMtxProcessOptions
  readonly #log: FastifyBaseLogger
  #child: Child | null = null
  #starting: Promise<void> = Promise.resolve()
  #restarts = 0
  /** How many times in succession the process has ended soon after its start. */
  #quickEnds = 0
  #stopping = false
  #timer: NodeJS.Timeout | undefined

  constructor (options: MediaMtxProcessOptions) {
    this.#options = options
    this.#log = options.log
  }

  get pid (): number | null {
    return this.#child?.pid ?? null
  }

  get restarts (): number {
    return this.#restarts
  }

  /** Resolves when the process runs. From then on it is restarted whenever it ends. */
  start (): Promise<void> {
    this.#starting = this.#launch()
    return this.#starting
  }

  /** Ends a process that no longer responds, so that a new one is started. */
  replace (): void {
    this.#log.error({ pid: this.pid }, 'MediaMTX no longer responds; replacing its process')
    void this.#child?.stop(1)
  }

  async stop (): Promise<void> {
    this.#stopping = true
    clearTimeout(this.#timer)
    // A start in progress creates a process that has to be ended, too.
    await this.#starting.catch(() => { /* the caller of start() handles it */ })
    await this.#child?.stop(1500)
    await rm(this.#options.pidFile, { force: true })
  }

  async #launch (): Promise<void> {
    const { binary, configFile, prepare, onStarted } = this.#options
    await prepare()
    if (this.#stopping) return
    const startedAt = Date.now()
    const child = await startChild({
      command: binary.path,
      args: [configFile],
      onLine: line => { this.#relay(redactUrls(line)) }
    })
    this.#child = child
    // Before the next await: whatever fails from here on, the process is supervised.
    void child.ended.then(({ code, signal }) => {
      this.#child = null
      if (!this.#stopping) this.#scheduleRestart(startedAt, code, signal)
    })
    await this.#storePid(child.pid)
    this.#log.info({ pid: child.pid, version: binary.version }, 'MediaMTX started')
    if (!this.#stopping) onStarted()
  }

  async #storePid (pid: number): Promise<void> {
    const { pidFile } = this.#options
    try {
      await writeFile(pidFile, String(pid), { mode: 0o600 })
    } catch (error) {
      this.#log.warn(
        { err: error, pid },
        'the process id of MediaMTX could not be stored: if this service is killed, end MediaMTX by hand'
      )
    }
  }

  #scheduleRestart (startedAt: number, code: number | null, signal: NodeJS.Signals | null): void {
    this.#quickEnds = Date.now() - startedAt > HEALTHY_MS ? 0 : this.#quickEnds + 1
    const delayMs = this.#quickEnds === 0 ? 0 : BACKOFF_MS[Math.min(this.#quickEnds, BACKOFF_MS.length) - 1]!
    this.#restarts++
    this.#log.error({ code, signal, delayMs }, 'MediaMTX has ended; restarting it')
    this.#timer = setTimeout(() => { this.#restart() }, delayMs)
  }

  #restart (): void {
    this.start().catch((error: unknown) => {
      this.#log.error({ err: error }, 'MediaMTX could not be started; trying again')
      if (!this.#stopping) this.#timer = setTimeout(() => { this.#restart() }, START_RETRY_MS)
    })
  }

  /** Logs a line of MediaMTX's output at the matching level of our log. */
  #relay (line: string): void {
    const [, level, text] = /^\S+ \S+ (DEB|INF|WAR|ERR) (.*)$/.exec(line) ?? [null, 'INF', line]
    if (level === 'ERR') this.#log.error({ from: 'mediamtx' }, text)
    else if (level === 'WAR') this.#log.warn({ from: 'mediamtx' }, text)
    else this.#log.debug({ from: 'mediamtx' }, text)
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
  log.warn({ pid }, 'ending a MediaMTX process that an earlier run left behind')
  process.kill(pid, 'SIGKILL')
  return true
}
