import type { RecordSpec } from './path-spec.js'

/**
 * What the media server should record now. The recorder changes it and the reconciler applies it; it holds state only,
 * so that neither of them needs the other.
 */
export class RecordingPlan {
  readonly #folders = new Map<string, string>()

  /** From the next reconciliation on, the camera is recorded into `folder`. */
  add (camera: string, folder: string): void {
    this.#folders.set(camera, folder)
  }

  /** From the next reconciliation on, the camera is not recorded. */
  remove (camera: string): void {
    this.#folders.delete(camera)
  }

  /** How to record a camera; null when it is not to be recorded. */
  specOf (camera: string): RecordSpec | null {
    const folder = this.#folders.get(camera)
    return folder === undefined ? null : { folder }
  }
}
