import type { FastifyInstance } from 'fastify'
import { readdirSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml'
}

/** Serves every file of the web folder under its own name, read once. They are public and contain nothing secret. */
export function pageRoutes (app: FastifyInstance, folder: string, mediaOrigins: readonly string[]): void {
  const headers = {
    csp: {
      'default-src': ["'none'"],
      'script-src': ["'self'"],
      'style-src': ["'self'"],
      'img-src': ["'self'", 'blob:', 'data:'],
      'media-src': ["'self'", 'blob:'],
      'connect-src': ["'self'", ...mediaOrigins],
      'base-uri': ["'none'"],
      'form-action': ["'self'"],
      'frame-ancestors': ["'none'"]
    },
    // Features for a video wall. Frames of other origins get none of them.
    permissions: { fullscreen: ['self'], 'picture-in-picture': ['self'], 'screen-wake-lock': ['self'] }
  }
  for (const name of readdirSync(folder)) {
    const type = TYPES[extname(name)]
    if (type === undefined) continue
    const body = readFileSync(join(folder, name))
    app.get(
      name === 'index.html' ? '/' : `/${name}`,
      { config: { security: { public: true, limits: false }, headers } },
      async (_request, reply) => await reply.type(type).header('cache-control', 'no-cache').send(body)
    )
  }
}
