import { randomBytes } from 'node:crypto'

/** `camera0_2026-11-22_18-00-00_k3f9x2.jpg` in UTC: sortable, unique, and not guessable from another file name. */
export function fileName (camera: string, at: number, extension: string): string {
  return `${baseName(camera, at)}.${extension}`
}

export function baseName (camera: string, at: number): string {
  const time = new Date(at).toISOString().slice(0, 19).replace('T', '_').replaceAll(':', '-')
  return `${camera}_${time}_${randomBytes(6).toString('hex')}`
}
