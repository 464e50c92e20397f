import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseCheckpoint, type SignedCheckpoint } from './checkpoint.js'
import { AuditFileInvalid } from '../errors.js'

/** How much of the end of the file is searched for its last line; a line has about 300 bytes. */
const TAIL_BYTES = 4096
const NEWLINE = 0x0a

/** A file with one signed checkpoint per line. It is not part of the chain. */
export class CheckpointFile {
  readonly #path: string
  /** Whether the last append may have written only a part of its line. */
  #isTorn = false

  constructor (path: string) {
    this.#path = path
  }

  /** The last checkpoint; null when there is none. Truncates a half-written line after it. */
  async last (): Promise<SignedCheckpoint | null> {
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 })
    const handle = await open(this.#path, 'a+', 0o600)
    try {
      const { size } = await handle.stat()
      const tail = Buffer.alloc(Math.min(size, TAIL_BYTES))
      await handle.read(tail, 0, tail.length, size - tail.length)
      const end = tail.lastIndexOf(NEWLINE) + 1
      if (end === 0 && size > TAIL_BYTES) throw this.#invalid()
      if (end < tail.length) await handle.truncate(size - (tail.length - end))
      if (end === 0) return null
      const checkpoint = parseCheckpoint(tail.toString('utf8', tail.lastIndexOf(NEWLINE, end - 2) + 1, end - 1))
      if (checkpoint === null) throw this.#invalid()
      return checkpoint
    } finally {
      await handle.close()
    }
  }

  async append (checkpoint: SignedCheckpoint): Promise<void> {
    if (this.#isTorn) await this.last()
    this.#isTorn = true
    const handle = await open(this.#path, 'a', 0o600)
    try {
      await handle.appendFile(`${JSON.stringify(checkpoint)}\n`)
      await handle.datasync()
    } finally {
      await handle.close()
    }
    this.#isTorn = false
  }

  #invalid (): Error {
    return new AuditFileInvalid(
      `The last line of "${this.#path}" is not a signed checkpoint. Move the file away and keep it, verify the log, ` +
        'and start again'
    )
  }
}
