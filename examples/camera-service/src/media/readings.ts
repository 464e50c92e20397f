import type { Metric } from '@marty/security'
import type { CameraRegistry } from '../cameras/registry.js'
import type { Recorder } from './recorder.js'

const STATUSES = ['CONNECTED', 'DISCONNECTED', 'ERROR'] as const

/** The state of cameras and recordings for `/metrics`, in numbers only: their names would be labels without bound. */
export function cameraReadings (cameras: CameraRegistry, recorder: Recorder): Metric[] {
  const all = cameras.list()
  return [
    {
      name: 'cameras',
      help: 'Cameras that the service knows, by status.',
      type: 'gauge',
      values: STATUSES.map(status => ({
        labels: { status },
        value: all.filter(camera => camera.status === status).length
      }))
    },
    {
      name: 'recordings_active',
      help: 'Recordings that run.',
      type: 'gauge',
      values: [{ value: all.filter(({ id }) => recorder.current(id) !== null).length }]
    }
  ]
}
