import type { Discovery, FoundCamera } from '../camera.js'

const PATTERN: FoundCamera = {
  stableKey: 'test-pattern',
  name: 'Test pattern',
  source: { kind: 'test-pattern' },
  mode: { width: 640, height: 360, fps: 15 }
}

/**
 * A moving picture made by ffmpeg, so that everything can be tried without a camera.
 * `auto` offers it only while none of the other discoveries has ever found anything.
 */
export function testPattern (when: 'always' | 'auto', othersFound: () => boolean): Discovery {
  return {
    name: 'test-pattern',
    async find () { return when === 'always' || !othersFound() ? [PATTERN] : [] }
  }
}
