import send from '@fastify/send'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { basename, dirname } from 'node:path'
import { FileNotFound } from '../../library/errors.js'
import type { FileKind, Library } from '../../library/index.js'

const TYPES: Readonly<Record<string, string>> = { mp4: 'video/mp4', jpg: 'image/jpeg', png: 'image/png' }

/** Downloads with ranges (RFC 9110 section 14). The name is looked up in the library: only what is listed there can be read. */
export function fileRoutes (app: FastifyInstance, library: Library): void {
  const serve = (kind: FileKind) => async (request: FastifyRequest<{ Params: { name: string } }>, reply: FastifyReply): Promise<FastifyReply> => {
    const file = library.findFile(kind, request.params.name)
    if (file === null) throw new FileNotFound()
    const { statusCode, headers, stream } = await send(request.raw, `/${encodeURIComponent(basename(file.path))}`, {
      root: dirname(file.path), index: false, cacheControl: false
    })
    // Listed but no longer on disk: somebody removed it by hand.
    if (statusCode === 404) throw new FileNotFound()
    return await reply.code(statusCode).headers(headers).headers({
      'cache-control': 'private, no-store',
      'content-disposition': `attachment; filename="${file.name}"`,
      'content-type': TYPES[file.name.slice(file.name.lastIndexOf('.') + 1)] ?? 'application/octet-stream'
    }).send(stream)
  }
  app.get('/files/recordings/:name', { config: { security: { permission: 'recording:view' } } }, serve('recording'))
  app.get('/files/snapshots/:name', { config: { security: { permission: 'snapshot:view' } } }, serve('snapshot'))
}
