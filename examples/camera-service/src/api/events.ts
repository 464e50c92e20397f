import type { FastifyInstance } from 'fastify'
import type { RecordingEvent } from '../media/recorder.js'
import type { CameraView } from './view.js'

/** Sends notifications to every connection with `camera:view`. */
export interface Events {
  cameraStatus (camera: CameraView): void
  recordingStatus (event: RecordingEvent): void
}

export function createEvents (app: FastifyInstance): Events {
  const toViewers = (method: string, params: object): void => {
    app.rpc.notify(method, params, { to: connection => app.can(connection.principal, 'camera:view') })
  }
  return {
    cameraStatus (camera) { toViewers('camera_status_update', camera) },
    recordingStatus (event) { toViewers('recording_status_update', event) }
  }
}
