import Database from 'libsql'

export type FileKind = 'recording' | 'snapshot'

/** One finished file that the service has stored. */
export interface FileRecord {
  /** The name that clients use. It is looked up in the library, never joined to a path. */
  readonly name: string
  readonly kind: FileKind
  readonly camera: string
  /** Absolute path on disk. */
  readonly path: string
  readonly sizeBytes: number
  /** Milliseconds since the epoch. */
  readonly createdAt: number
  readonly durationSeconds: number | null
  readonly width: number | null
  readonly height: number | null
}

/** A recording that has started but is not finished. Its record survives a crash of the service. */
export interface OpenRecording {
  readonly id: string
  readonly camera: string
  readonly folder: string
  /** Base name of the recording's files. */
  readonly name: string
  readonly startedAt: number
  /** Requested length in seconds; null to record until stopped. */
  readonly durationSeconds: number | null
  readonly startedBy: string
}

/** A camera's permanent identity. */
export interface CameraIdentity { readonly id: string, readonly stableKey: string, readonly createdAt: number }

/** The persistent state of the service, in one SQLite file. */
export interface Library {
  /** Returns a camera's id. A new stable key is assigned the next one: `camera0`, `camera1`, … */
  identify(stableKey: string, now?: number): CameraIdentity
  addFile(file: FileRecord): void
  findFile(kind: FileKind, name: string): FileRecord | null
  /** Newest first. */
  listFiles(
    kind: FileKind,
    limit: number,
    offset: number
  ): { readonly files: readonly FileRecord[], readonly total: number }
  openRecording(recording: OpenRecording): void
  openRecordings(): readonly OpenRecording[]
  /** Closes a recording and adds its files, in one transaction. */
  closeRecording(id: string, files: readonly FileRecord[]): void
  close(): void
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS cameras (
    number INTEGER PRIMARY KEY AUTOINCREMENT, stable_key TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS files (
    name TEXT NOT NULL, kind TEXT NOT NULL, camera TEXT NOT NULL, path TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL, duration_seconds REAL, width INTEGER, height INTEGER, PRIMARY KEY (kind, name)) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS files_newest ON files (kind, created_at DESC, name DESC);
  CREATE TABLE IF NOT EXISTS open_recordings (
    id TEXT PRIMARY KEY, camera TEXT NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL, started_at INTEGER NOT NULL,
    duration_seconds REAL, started_by TEXT NOT NULL) WITHOUT ROWID;
`

interface FileRow {
  name: string
  kind: FileKind
  camera: string
  path: string
  size_bytes: number
  created_at: number
  duration_seconds: number | null
  width: number | null
  height: number | null
}

/** Opens or creates the library. With `:memory:`, nothing is stored on disk. */
export function openLibrary (file: string): Library {
  const db = openAlone(file)

  const insertFile = db.prepare('INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
  const addFile = (file: FileRecord): void => {
    insertFile.run(
      file.name, file.kind, file.camera, file.path, file.sizeBytes, file.createdAt, file.durationSeconds, file.width,
      file.height
    )
  }

  return {
    identify (stableKey, now = Date.now()) {
      db.prepare('INSERT INTO cameras (stable_key, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING').run(
        stableKey,
        now
      )
      const row = db.prepare('SELECT number, created_at FROM cameras WHERE stable_key = ?').get(stableKey) as {
        number: number
        created_at: number
      }
      return { id: `camera${row.number - 1}`, stableKey, createdAt: row.created_at }
    },
    addFile,
    findFile (kind, name) {
      const row = db.prepare('SELECT * FROM files WHERE kind = ? AND name = ?').get(kind, name) as FileRow | undefined
      return row === undefined ? null : toFile(row)
    },
    listFiles (kind, limit, offset) {
      const rows = db
        .prepare('SELECT * FROM files WHERE kind = ? ORDER BY created_at DESC, name DESC LIMIT ? OFFSET ?')
        .all(kind, limit, offset) as FileRow[]
      const { total } = db.prepare('SELECT count(*) AS total FROM files WHERE kind = ?').get(kind) as { total: number }
      return { files: rows.map(toFile), total }
    },
    openRecording (recording) {
      db.prepare('INSERT INTO open_recordings VALUES (?, ?, ?, ?, ?, ?, ?)').run(
        recording.id, recording.camera, recording.folder, recording.name, recording.startedAt,
        recording.durationSeconds, recording.startedBy
      )
    },
    openRecordings () {
      const rows = db.prepare('SELECT * FROM open_recordings ORDER BY started_at').all() as Array<{
        id: string
        camera: string
        folder: string
        name: string
        started_at: number
        duration_seconds: number | null
        started_by: string
      }>
      return rows.map(row => ({
        id: row.id,
        camera: row.camera,
        folder: row.folder,
        name: row.name,
        startedAt: row.started_at,
        durationSeconds: row.duration_seconds,
        startedBy: row.started_by
      }))
    },
    closeRecording (id, files) {
      db.transaction(() => {
        for (const file of files) addFile(file)
        db.prepare('DELETE FROM open_recordings WHERE id = ?').run(id)
      })()
    },
    close () { db.close() }
  }
}

/** Opens the file for one process only. SQLite holds the lock, so it is released however the process ends. */
function openAlone (file: string): Database.Database {
  const db = new Database(file)
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE')
    db.exec('PRAGMA journal_mode = WAL')
    db.exec('PRAGMA synchronous = FULL')
    db.exec(SCHEMA)
    return db
  } catch (error) {
    db.close()
    if (/locked|busy/i.test(String((error as { code?: string }).code) + (error as Error).message)) {
      throw new Error(
        `${file} is in use: another camera service runs on the same data_dir. End it, or give this one a data_dir ` +
          'and ports of its own'
      )
    }
    throw error
  }
}

function toFile (row: FileRow): FileRecord {
  return {
    name: row.name,
    kind: row.kind,
    camera: row.camera,
    path: row.path,
    sizeBytes: row.size_bytes,
    createdAt: row.created_at,
    durationSeconds: row.duration_seconds,
    width: row.width,
    height: row.height
  }
}
