import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import type { Camera } from '../../cameras/camera.js'
import { CameraDisconnected } from '../../cameras/errors.js'
import { StreamNotReady } from '../../media/errors.js'
import { MediaMtxUnavailable } from '../../mediamtx/errors.js'
import type { ApiParts } from '../parts.js'
import { fileView } from '../view.js'
import { device } from './cameras.js'

/** take_snapshot, start_recording, stop_recording. */
export function mediaMethods (app: FastifyInstance, parts: ApiParts): void {
  /** Returns a camera whose video arrives. Otherwise throws the error that says what is missing. */
  function liveCamera (id: string): Camera {
    const camera = parts.cameras.get(id)
    const paths = parts.activePaths()
    if (paths === null) throw new MediaMtxUnavailable({ data: { dependency: 'mediamtx' } })
    if (camera.status === 'DISCONNECTED') {
      throw new CameraDisconnected({ data: { device: camera.id, state: camera.status, allowed_states: ['CONNECTED'] } })
    }
    if (paths.get(camera.id)?.available !== true) {
      throw new StreamNotReady({ data: { device: camera.id, dependency: 'stream' } })
    }
    return camera
  }

  app.rpc.method({
    name: 'take_snapshot',
    summary: 'Stores one picture of the live stream.',
    security: { permission: 'snapshot:take', audit: 'all' },
    params: Type.Object({
      device,
      format: Type.Optional(Type.Union([Type.Literal('jpg'), Type.Literal('png')], { default: 'jpg' })),
      quality: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 85, description: 'JPEG quality' }))
    }, { additionalProperties: false }),
    handler: async params => {
      const camera = liveCamera(params.device)
      const file = await parts.snapshot(camera.id, params.format ?? 'jpg', params.quality ?? 85)
      const view = fileView(file)
      return {
        device: camera.id,
        filename: view.filename,
        status: 'SUCCESS',
        timestamp: view.modified_time,
        file_size: view.file_size,
        format: view.format,
        resolution: view.resolution,
        download_url: view.download_url
      }
    }
  })

  app.rpc.method({
    name: 'start_recording',
    summary: 'Records the live stream for the given duration, or until it is stopped.',
    security: { permission: 'recording:control', audit: 'all' },
    params: Type.Object(
      {
        device,
        duration: Type.Optional(
          Type.Number({
            minimum: 1,
            maximum: parts.maxRecordingSeconds,
            description: 'Seconds; without it, the recording runs until it is stopped'
          })
        ),
        format: Type.Optional(Type.Literal('fmp4', { default: 'fmp4' }))
      },
      { additionalProperties: false }
    ),
    handler: async (params, { principal }) => {
      const camera = liveCamera(params.device)
      const recording = await parts.recorder.start(camera.id, params.duration ?? null, principal.id)
      return {
        device: camera.id,
        filename: `${recording.name}.mp4`,
        session_id: recording.id,
        status: 'STARTED',
        start_time: new Date(recording.startedAt).toISOString(),
        duration: recording.durationSeconds,
        format: 'fmp4'
      }
    }
  })

  app.rpc.method({
    name: 'stop_recording',
    summary: 'Stops the current recording of a camera and returns its files.',
    security: { permission: 'recording:control', audit: 'all' },
    params: Type.Object({ device }, { additionalProperties: false }),
    handler: async params => {
      const camera = parts.cameras.get(params.device)
      const { recording, endedAt, files } = await parts.recorder.stop(camera.id)
      return {
        device: camera.id,
        filename: files[0]?.name ?? `${recording.name}.mp4`,
        status: files.length > 0 ? 'STOPPED' : 'ERROR',
        start_time: new Date(recording.startedAt).toISOString(),
        end_time: new Date(endedAt).toISOString(),
        duration: files.reduce((sum, file) => sum + (file.durationSeconds ?? 0), 0),
        file_size: files.reduce((sum, file) => sum + file.sizeBytes, 0),
        format: 'fmp4',
        files: files.map(fileView)
      }
    }
  })
}
