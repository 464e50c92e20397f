import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import type { Camera } from '../../cameras/camera.js'
import { pathOf } from '../../mediamtx/path-spec.js'
import { streamUrls } from '../../mediamtx/stream-urls.js'
import type { ApiParts } from '../parts.js'
import { cameraView } from '../view.js'

/** A camera's id. No stricter format is needed, because the id is only used for look-ups. */
export const device = Type.String({ minLength: 1, maxLength: 64, description: 'Camera id, such as camera0' })

/** ping, get_camera_list, get_camera_status, get_stream_url. */
export function cameraMethods (app: FastifyInstance, parts: ApiParts): void {
  const streamStatus = (camera: Camera): 'READY' | 'NOT_READY' =>
    parts.activePaths()?.get(camera.id)?.available === true ? 'READY' : 'NOT_READY'

  app.rpc.method({
    name: 'ping',
    summary: 'Returns "pong".',
    security: { public: true },
    handler: () => 'pong'
  })

  app.rpc.method({
    name: 'get_camera_list',
    summary: 'All cameras that the service knows.',
    security: { permission: 'camera:view' },
    handler: () => {
      const cameras = parts.cameras.list().map(camera => cameraView(parts, camera))
      return {
        cameras,
        total: cameras.length,
        connected: cameras.filter(camera => camera.status === 'CONNECTED').length
      }
    }
  })

  app.rpc.method({
    name: 'get_camera_status',
    summary: 'The state, stream, recording and capabilities of one camera.',
    security: { permission: 'camera:view' },
    params: Type.Object({ device }, { additionalProperties: false }),
    handler: params => {
      const camera = parts.cameras.get(params.device)
      const runtime = parts.activePaths()?.get(camera.id)
      const recording = parts.recorder.current(camera.id)
      return {
        ...cameraView(parts, camera),
        stream_status: streamStatus(camera),
        metrics: {
          bytes_sent: runtime?.outboundBytes ?? 0,
          readers: runtime?.readers.length ?? 0,
          uptime: secondsSince(runtime?.availableTime ?? null)
        },
        capabilities: capabilitiesOf(camera),
        recording_file: recording === null ? null : `${recording.name}.mp4`,
        elapsed_time: recording === null ? null : Math.round((Date.now() - recording.startedAt) / 1000)
      }
    }
  })

  app.rpc.method({
    name: 'get_stream_url',
    summary: 'URLs that play one camera. They contain a short-lived token with which a viewer can start watching.',
    security: { permission: 'stream:view' },
    params: Type.Object({ device }, { additionalProperties: false }),
    handler: (params, { principal }) => {
      const camera = parts.cameras.get(params.device)
      const grant = parts.authority.grantRead(pathOf(camera.id), principal, parts.streamTokenMs)
      const streams = streamUrls(parts.hosts, camera.id, grant.token)
      const runtime = parts.activePaths()?.get(camera.id)
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

/** Whole seconds since an ISO date; null without one. */
function secondsSince (time: string | null): number | null {
  return time === null ? null : Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000))
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
