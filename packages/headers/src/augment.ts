import type { HeaderOverrides } from './options.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the browser is told about this route alone, over the plugin's options. */
    headers?: HeaderOverrides
  }
}
