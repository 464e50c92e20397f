import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findMediaMtx } from '@marty/camera-service/mediamtx/binary.js'
import { startChild, type Child } from '@marty/camera-service/process/child.js'
import { shipped } from '@marty/camera-service/settings/settings.js'
import { eventually } from '@marty/testing'

/** A network camera as users have one: another MediaMTX as its RTSP server, and an ffmpeg as its lens. */
export interface RtspCamera {
  readonly server: Child
  /** Process id of the lens: stop it with SIGSTOP, and the camera is reached and sends nothing. */
  readonly lensPid: () => number
  /** Ends the lens at once: the camera is reached and has no stream. */
  loseStream (): Promise<void>
  /** Starts the lens again. */
  restoreStream (): Promise<void>
  stop (): Promise<void>
}

/** Starts a camera at `rtsp://viewer:PASSWORD@127.0.0.1:PORT/stream`. */
export async function startRtspCamera (folder: string, port: number, password: string): Promise<RtspCamera> {
  const { binary } = await findMediaMtx(process.env['MEDIAMTX_BIN'] ?? '', process.env['PATH'] ?? '', shipped.mediamtx)
  if (binary === null) throw new Error('MediaMTX is not there: run "npm run setup -- --for test"')
  const file = join(folder, 'camera.json')
  await writeFile(file, JSON.stringify({
    rtspAddress: `127.0.0.1:${port}`,
    rtspTransports: ['tcp'],
    rtmp: false,
    hls: false,
    webrtc: false,
    srt: false,
    moq: false,
    authInternalUsers: [
      { user: 'any', permissions: [{ action: 'publish' }] },
      { user: 'viewer', pass: password, permissions: [{ action: 'read' }] }
    ],
    paths: { all_others: {} }
  }))
  const server = await startChild({ command: binary.path, args: [file] })
  let lens = await startLens(port)
  return {
    server,
    lensPid: () => lens.pid,
    async loseStream () {
      process.kill(lens.pid, 'SIGKILL')
      await lens.ended
    },
    async restoreStream () { lens = await startLens(port) },
    async stop () {
      await lens.stop()
      await server.stop()
    }
  }
}

/** Low resolution and frame rate, a key frame a second: nothing here is about the picture. */
async function startLens (port: number): Promise<Child> {
  return await eventually(async () => {
    const child = await startChild({
      command: 'ffmpeg',
      args: [
        '-loglevel',
        'error',
        '-nostdin',
        '-re',
        '-f',
        'lavfi',
        '-i',
        'testsrc2=size=320x240:rate=10',
        '-c:v',
        'libx264',
        '-preset',
        'ultrafast',
        '-tune',
        'zerolatency',
        '-g',
        '10',
        '-pix_fmt',
        'yuv420p',
        '-f',
        'rtsp',
        '-rtsp_transport',
        'tcp',
        `rtsp://127.0.0.1:${port}/stream`
      ]
    })
    const early = await Promise.race([child.ended, new Promise<null>(resolve => setTimeout(resolve, 1000, null))])
    if (early !== null) throw new Error('the camera could not publish yet')
    return child
  })
}
