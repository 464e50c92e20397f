import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { dirname, join } from 'node:path'
import type { KeyObject } from 'node:crypto'
import { audit, type AuditCheckpoints, type FileSinkOptions } from '@marty/audit'
import Fastify, { type FastifyInstance } from 'fastify'
import { event, PRODUCT } from './service.js'

/** A sealed line that goes on from another, as anybody who can write the file can make it. */
export function forged (members: object, before: string | null): string {
  const { seq, hash } = before === null ? { seq: 0, hash: '0'.repeat(64) } : JSON.parse(before) as { seq: number, hash: string }
  const body = JSON.stringify({ seq: seq + 1, time: Date.now(), ...members, prev: hash })
  return `${body.slice(0, -1)},"hash":"${createHash('sha256').update(`${hash}\n${body}`).digest('hex')}"}`
}

/** Records that mean something to the log, forged. */
export const forgedEvent = { activity_name: 'forged.act', class_uid: 6003 }
export const forgedStop = { activity_name: 'service.stop', class_uid: 6002 }
export const forgedStart = { activity_name: 'service.start', class_uid: 6002 }
export const forgedGap = { activity_name: 'audit.gap', class_uid: 1008, torn_bytes: 0, torn_sha256: null, lost_events: null }
export const forgedPrune = (firstKept: string): object => {
  const { seq, prev } = JSON.parse(firstKept) as { seq: number, prev: string }
  return { activity_name: 'audit.prune', class_uid: 1008, first_seq: 1, last_seq: seq - 1, last_hash: prev }
}

/** Forged records that follow each other. */
export function chainOf (before: string, ...members: readonly object[]): string[] {
  const lines: string[] = []
  for (const one of members) lines.push(forged(one, lines.at(-1) ?? before))
  return lines
}

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
    const names = readdirSync(this.folder).filter(name => name.endsWith('.log')).sort()
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

/** The service; its checkpoints come only at its start, at the end of each file and when it stops, unless it is told otherwise. */
export async function open (file: string, key: KeyObject, checkpoints: Partial<AuditCheckpoints> = {}, sink: Partial<FileSinkOptions> = {}): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(audit, { sink: { file, mode: 'sync', rotate: false, ...sink }, product: PRODUCT, checkpoints: { key, everySeconds: 3600, everyEvents: 1000, ...checkpoints } })
  await app.ready()
  return app
}

/** So many events. */
export async function act (app: FastifyInstance, events: number): Promise<void> {
  for (let i = 0; i < events; i++) await app.audit.record(event({ action: `act.${i}` }))
}
