import type { Camera } from './camera.js'
import { chooseMode, ffmpegInputArgs } from './discovery/v4l2/mode.js'

/** The arguments for ffmpeg to read a local camera and publish it as H.264 over RTSP. */
export function encodeArgs (camera: Camera, target: string): string[] {
  const { input, fps, copy } = inputOf(camera)
  return [
    '-hide_banner', '-loglevel', 'warning', '-nostdin', ...input, '-an',
    ...(copy ? ['-c:v', 'copy'] : h264(fps)),
    '-f', 'rtsp', '-rtsp_transport', 'tcp', target
  ]
}

function inputOf (camera: Camera): { readonly input: string[], readonly fps: number, readonly copy: boolean } {
  const { source, mode } = camera
  switch (source.kind) {
    case 'test-pattern': {
      const { width, height, fps } = mode ?? { width: 640, height: 360, fps: 15 }
      return { input: ['-re', '-f', 'lavfi', '-i', `testsrc2=size=${width}x${height}:rate=${fps}`], fps, copy: false }
    }
    case 'v4l2': {
      const chosen = chooseMode(source.device)
      return { input: ffmpegInputArgs(source.device, chosen), fps: chosen.fps, copy: chosen.pixelFormat === 'H264' }
    }
    case 'rtsp':
      throw new TypeError('network cameras are pulled by the media server')
  }
}

/**
 * The baseline profile without B-frames plays in every browser over WebRTC. One key frame per second lets new viewers
 * see a picture quickly.
 */
function h264 (fps: number): string[] {
  const gop = String(Math.max(1, Math.round(fps)))
  return [
    '-c:v', 'libx264', '-preset', 'ultrafast', '-tune', 'zerolatency', '-profile:v', 'baseline', '-pix_fmt',
    'yuv420p', '-g', gop, '-keyint_min', gop
  ]
}
