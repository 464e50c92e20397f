import type { Discovery, FoundCamera } from '../camera.js'
import { chooseMode, discoverV4l2, watchV4l2 } from './v4l2.js'

/** Local cameras, as a discovery. */
export function v4l2Cameras (): Discovery {
  return {
    name: 'v4l2',
    async find () {
      const { cameras } = await discoverV4l2()
      return cameras.map((device): FoundCamera => {
        const { width, height, fps } = chooseMode(device)
        return { stableKey: device.stableKey, name: device.name, source: { kind: 'v4l2', device }, mode: { width, height, fps } }
      })
    },
    watch (onChange) {
      const watch = watchV4l2(onChange)
      return () => { watch.close() }
    }
  }
}
