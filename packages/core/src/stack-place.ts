import { isAbsolute } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Not with frozen intrinsics. */
const isLimitWritable = Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit')?.writable === true
/** Helpers of an application may lie between its own line and Fastify. */
const MAX_FRAMES = 50

/** The stack above `caller`, whatever depth the process is set to. */
export function stackAbove (caller: (...args: never[]) => unknown): unknown {
  const holder: { stack?: unknown } = {}
  const depth = Error.stackTraceLimit
  if (isLimitWritable) Error.stackTraceLimit = MAX_FRAMES
  Error.captureStackTrace(holder, caller)
  // Read before the limit is put back: this is what writes it down, with source maps where the process uses them.
  const { stack } = holder
  if (isLimitWritable) Error.stackTraceLimit = depth
  return stack
}

/**
 * The line of the application that registered a route, as `/app/src/routes.js:12:5`; the line of the third-party
 * plugin when no line of the application is on the stack. Null when the stack cannot be read.
 *
 * @param stack what `stackAbove` gave; a process may write stacks in its own way, so it is not always a string
 */
export function placeOfRegistration (stack: unknown): string | null {
  if (typeof stack !== 'string') return null
  const places = stack.split('\n').map(placeOfFrame).filter(place => place !== null)
  // The first frame is Fastify's. It tells where Fastify is, which need not be node_modules.
  const fastify = /^(.*[\\/])lib[\\/]route\.js:/.exec(places[0] ?? '')?.[1]
  const outside = places.filter(place => fastify === undefined || !place.startsWith(fastify))
  return outside.find(place => !/[\\/]node_modules[\\/]/.test(place)) ?? outside[0] ?? null
}

/** `at name (/file.js:1:2)`, `at file:///file.js:1:2`, `at async /file.js:1:2`; null for frames of Node and of `eval`. */
function placeOfFrame (line: string): string | null {
  const frame = /^\s*at (?:async )?(.*)$/.exec(line)?.[1]
  if (frame === undefined) return null
  const place = frame.endsWith(')') ? frame.slice(frame.indexOf(' (') + 2, -1) : frame
  const [, file, position] = /^(.*?)(:\d+:\d+)$/.exec(place) ?? []
  if (file === undefined || position === undefined) return null
  const path = file.startsWith('file://') ? fileURLToPath(file) : file
  return isAbsolute(path) ? path + position : null
}
