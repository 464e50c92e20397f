import type { Discovery, FoundCamera } from '../../camera.js'
import { chooseMode } from './mode.js'
import { discoverV4l2 } from './v4l2.js'
import { watchV4l2 } from './watch.js'

/** Called for a device node that could not be queried, once for each reason. */
export type OnProblem = (node: string, reason: string) => void

/** Discovers the local cameras. */
export function v4l2Cameras (onProblem: OnProblem): Discovery {
  // Serial numbers that two cameras had at the same time. Both cameras keep their longer key when one is unplugged.
  let sharedSerials: Awaited<ReturnType<typeof discoverV4l2>>['sharedSerials'] | undefined
  let reported = new Set<string>()
  return {
    name: 'v4l2',
    async find () {
      const result = await discoverV4l2(sharedSerials === undefined ? {} : { sharedSerials })
      sharedSerials = result.sharedSerials
      const problems = new Set(result.problems.map(({ node, reason }) => `${node} ${reason}`))
      for (const { node, reason } of result.problems) if (!reported.has(`${node} ${reason}`)) onProblem(node, reason)
      reported = problems
      return result.cameras.map((device): FoundCamera => {
        const { width, height, fps } = chooseMode(device)
        return {
          stableKey: device.stableKey,
          name: device.name,
          source: { kind: 'v4l2', device },
          mode: { width, height, fps }
        }
      })
    },
    watch (onChange) {
      const watch = watchV4l2(onChange)
      return () => { watch.close() }
    }
  }
}
