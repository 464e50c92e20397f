import type { AuditSink } from './sink.js'

/** Writes to standard output, for log collectors that read it. Each start begins a new chain. */
export function createStdoutSink (): AuditSink {
  return {
    async write (lines) {
      await new Promise<void>((resolve, reject) => {
        process.stdout.write(lines, error => { if (error) reject(error); else resolve() })
      })
    }
  }
}
