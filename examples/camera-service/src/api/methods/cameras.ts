import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import type { Camera } from '../../cameras/camera.js'
import { pathOf } from '../../mediamtx/path-spec.js'
import { streamUrls } from '../../mediamtx/stream-urls.js'
import type { ApiParts } from '../parts.js'
import { cameraView, type CameraView } from '../view.js'

/** A camera's id. No stricter format is needed, because the id is only used for look-ups. */
export const device = Type.String({ minLength: 1, maxLength: 64, description: 'Camera id, such as camera0' })

/** ping, get_camera_list, get_camera_status, get_stream_url. */
export function cameraMethods (app: FastifyInstance, parts: ApiParts): void {
  const view = (camera: Camera): CameraView => {
    const { id } = camera
    return cameraView(camera, parts.observed()?.get(id), streamUrls(parts.hosts, id, null), parts.recorder.status(id))
  }
  const streamStatus = (camera: Camera): 'READY' | 'NOT_READY' =>
    parts.observed()?.get(camera.id)?.available === true ? 'READY' : 'NOT_READY'

  app.rpc.method({
    name: 'ping',
    summary: 'Answers "pong".',
    security: { public: true },
    handler: () => 'pong'
  })

  app.rpc.method({
    name: 'get_camera_list',
    summary: 'Every camera the service knows.',
    security: { permission: 'camera:view' },
    handler: () => {
      const cameras = parts.cameras.list().map(view)
      return {
        cameras,
        total: cameras.length,
        connected: cameras.filter(camera => camera.status === 'CONNECTED').length
      }
    }
  })

  app.rpc.method({
    name: 'get_camera_status',
    summary: 'One camera with its stream, its recording and what it can do.',
    security: { permission: 'camera:view' },
    params: Type.Object({ device }, { additionalProperties: false }),
    handler: params => {
      const camera = parts.cameras.get(params.device)
      const runtime = parts.observed()?.get(camera.id)
      const recording = parts.recorder.current(camera.id)
      return {
        ...view(camera),
        stream_status: streamStatus(camera),
        metrics: {
          bytes_sent: runtime?.outboundBytes ?? 0,
          readers: runtime?.readers.length ?? 0,
          uptime:
            runtime?.availableTime == null
              ? null
              : Math.max(0, Math.round((Date.now() - Date.parse(runtime.availableTime)) / 1000))
        },
        capabilities: capabilitiesOf(camera),
        recording_file: recording === null ? null : `${recording.name}.mp4`,
        elapsed_time: recording === null ? null : Math.round((Date.now() - recording.startedAt) / 1000)
      }
    }
  })

  app.rpc.method({
    name: 'get_stream_url',
    summary: 'URLs that play one camera, carrying a token that starts one viewer\'s session within its short life.',
    security: { permission: 'stream:view' },
    params: Type.Object({ device }, { additionalProperties: false }),
    handler: (params, { principal }) => {
      const camera = parts.cameras.get(params.device)
      const grant = parts.authority.grantRead(pathOf(camera.id), principal, parts.streamTokenMs)
      const streams = streamUrls(parts.hosts, camera.id, grant.token)
      const runtime = parts.observed()?.get(camera.id)
      return {
        device: camera.id,
        stream_name: pathOf(camera.id),
        stream_url: streams.rtsp,
        streams,
        available: runtime?.available ?? false,
        active_consumers: runtime?.readers.length ?? 0,
        stream_status: streamStatus(camera),
        expires_at: new Date(grant.expiresAt).toISOString()
      }
    }
  })
}

function capabilitiesOf (camera: Camera): { formats: string[], resolutions: string[] } {
  if (camera.source.kind !== 'v4l2') {
    return { formats: [], resolutions: camera.mode === null ? [] : [`${camera.mode.width}x${camera.mode.height}`] }
  }
  const { formats } = camera.source.device
  return {
    formats: formats.map(format => format.pixelFormat),
    resolutions: [...new Set(formats.flatMap(format => format.sizes.map(size => `${size.width}x${size.height}`)))]
  }
}
