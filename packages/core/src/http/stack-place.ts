import { isAbsolute } from 'node:path'
import { fileURLToPath } from 'node:url'

/** False when Node runs with `--frozen-intrinsics`. */
const isLimitWritable = Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit')?.writable === true
/** Helper functions of the application may stand between its own line and Fastify. */
const MAX_FRAMES = 50

/** The stack above `caller`, independent of the process's `Error.stackTraceLimit`. */
export function stackAbove (caller: (...args: never[]) => unknown): unknown {
  const holder: { stack?: unknown } = {}
  const depth = Error.stackTraceLimit
  if (isLimitWritable) Error.stackTraceLimit = MAX_FRAMES
  Error.captureStackTrace(holder, caller)
  // Read it before the limit is restored: V8 formats the stack on first access, with source maps if they are enabled.
  const { stack } = holder
  if (isLimitWritable) Error.stackTraceLimit = depth
  return stack
}

/**
 * The line of the application that registered a route, such as `/app/src/routes.js:12:5`. If the stack holds no line
 * of the application, the line of the third-party plugin. Null when the stack cannot be parsed.
 *
 * @param stack the result of `stackAbove`; a process can customize stack traces, so it is not always a string
 */
export function placeOfRegistration (stack: unknown): string | null {
  if (typeof stack !== 'string') return null
  const places = stack.split('\n').map(placeOfFrame).filter(place => place !== null)
  // The first frame is Fastify's. It shows where Fastify is installed, which need not be node_modules.
  const fastify = /^(.*[\\/])lib[\\/]route\.js:/.exec(places[0] ?? '')?.[1]
  const outside = places.filter(place => fastify === undefined || !place.startsWith(fastify))
  return outside.find(place => !/[\\/]node_modules[\\/]/.test(place)) ?? outside[0] ?? null
}

/**
 * `at name (/file.js:1:2)`, `at file:///file.js:1:2`, `at async /file.js:1:2`; null for frames of Node and of `eval`.
 */
function placeOfFrame (line: string): string | null {
  const frame = /^\s*at (?:async )?(.*)$/.exec(line)?.[1]
  if (frame === undefined) return null
  const place = frame.endsWith(')') ? frame.slice(frame.indexOf(' (') + 2, -1) : frame
  const [, file, position] = /^(.*?)(:\d+:\d+)$/.exec(place) ?? []
  if (file === undefined || position === undefined) return null
  const path = file.startsWith('file://') ? fileURLToPath(file) : file
  return isAbsolute(path) ? path + position : null
}
