import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

/**
 * @param {import('tap').Test} t
 * @returns {string} a new folder that anyone may use, removed when the test ends
 */
export function temporaryFolder (t) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'marty-setup-'))
  chmodSync(folder, 0o777)
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
