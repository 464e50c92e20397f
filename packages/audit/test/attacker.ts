import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { KeyObject } from 'node:crypto'
import { audit, type AuditCheckpoints, type FileSinkOptions } from '@marty/audit'
import Fastify, { type FastifyInstance } from 'fastify'
import { event, PRODUCT } from './service.js'

const textOf = (lines: readonly string[]): string => lines.map(line => `${line}\n`).join('')

/** The files of a log as somebody without the key sees them, whole lines by name. */
export class Files {
  readonly folder: string
  readonly log: string

  constructor (log: string) {
    this.log = log
    this.folder = dirname(log)
  }

  names (): string[] {
    const names = readdirSync(this.folder)
      .filter(name => name.endsWith('.log'))
      .sort()
    return [...names.filter(name => name !== 'audit.log'), ...names.filter(name => name === 'audit.log')]
  }

  of (name: string): string[] {
    const path = join(this.folder, name)
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : []
  }

  put (name: string, lines: readonly string[]): void {
    writeFileSync(join(this.folder, name), textOf(lines))
  }

  change (name: string, edit: (lines: string[]) => string[]): void {
    this.put(name, edit(this.of(name)))
  }

  remove (name: string): void {
    rmSync(join(this.folder, name), { force: true })
  }

  lines (): string[] {
    return this.names().flatMap(name => this.of(name))
  }

  copy (to: string): string {
    rmSync(to, { recursive: true, force: true })
    cpSync(this.folder, to, { recursive: true })
    return to
  }

  restore (from: string): void {
    rmSync(this.folder, { recursive: true, force: true })
    cpSync(from, this.folder, { recursive: true })
  }
}

export const CHECKPOINTS = 'audit.log.heads'

/**
 * The service; its checkpoints come only at its start, at the end of each file and when it stops, unless it is told
 * otherwise.
 */
export async function open (
  file: string,
  key: KeyObject,
  checkpoints: Partial<AuditCheckpoints> = {},
  sink: Partial<FileSinkOptions> = {}
): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(audit, {
    sink: { file, mode: 'sync', rotate: false, ...sink },
    product: PRODUCT,
    checkpoints: { key, everySeconds: 3600, everyEvents: 1000, ...checkpoints }
  })
  await app.ready()
  return app
}

/** So many events. */
export async function act (app: FastifyInstance, events: number): Promise<void> {
  for (let i = 0; i < events; i++) await app.audit.record(event({ action: `act.${i}` }))
}
