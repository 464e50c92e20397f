import send, { type SendResult } from '@fastify/send'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { once } from 'node:events'
import { ReadStream } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { basename, dirname } from 'node:path'
import { FileNotFound, PreconditionFailed, RangeNotSatisfiable } from '../../library/errors.js'
import type { FileKind, FileRecord, Library } from '../../library/library.js'

const TYPES: Readonly<Record<string, string>> = { mp4: 'video/mp4', jpg: 'image/jpeg', png: 'image/png' }

type NamedRequest = FastifyRequest<{ Params: { name: string } }>

/**
 * Downloads with ranges and preconditions (RFC 9110 sections 13 and 14). The name is looked up in the library, so only
 * files that are listed there can be read. A request for several ranges gets the whole file (section 14.2).
 */
export function fileRoutes (app: FastifyInstance, library: Library): void {
  const serve = (kind: FileKind) => async (request: NamedRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const file = library.findFile(kind, request.params.name)
    if (file === null) throw new FileNotFound()
    const { statusCode, headers, stream } = await opened(await read(file, request))
    // A listed file never changes, so its ETag can be strong, as If-Range requires (section 13.1.5).
    const validators = { ...headers, ETag: strong(headers['ETag']!), 'cache-control': 'private, no-store' }
    if (statusCode === 304) return await reply.code(304).headers(validators).send()
    return await reply.code(statusCode).headers(validators).headers({
      'content-disposition': `attachment; filename="${file.name}"`,
      'content-type': TYPES[file.name.slice(file.name.lastIndexOf('.') + 1)] ?? 'application/octet-stream'
    }).send(stream)
  }
  app.get('/files/recordings/:name', { config: { security: { permission: 'recording:view' } } }, serve('recording'))
  app.get('/files/snapshots/:name', { config: { security: { permission: 'snapshot:view' } } }, serve('snapshot'))
}

async function read (file: FileRecord, { raw }: FastifyRequest): Promise<SendResult> {
  // `send` reads only the method and the headers of the request.
  const asked = { method: raw.method, headers: comparable(raw.headers) } as typeof raw
  const path = `/${encodeURIComponent(basename(file.path))}`
  return await send(asked, path, { root: dirname(file.path), index: false, cacheControl: false })
}

/** Returns the opened file or throws the matching error. `send` itself would respond with an HTML page. */
async function opened (result: SendResult): Promise<SendResult> {
  const { statusCode, headers, stream, type } = result
  if (type === 'file') {
    // The file may have been removed since `send` checked it. Find out before the headers are sent.
    if (stream instanceof ReadStream) {
      await once(stream, 'open').catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'ENOENT' ? new FileNotFound() : error
      })
    }
    return result
  }
  switch (statusCode) {
    // The file is listed but no longer on disk: someone has deleted it.
    case 404: throw new FileNotFound()
    case 412: throw new PreconditionFailed()
    case 416: throw new RangeNotSatisfiable({ headers: { 'content-range': headers['Content-Range']! } })
    default: throw new Error(`a listed file cannot be read: status ${statusCode}`)
  }
}

function strong (etag: string): string {
  return etag.replace(/^W\//, '')
}

/**
 * Rewrites `If-Range`, because `send` only compares weak ETags. A strong tag is marked as weak so that it can match, a
 * weak tag is replaced by one that never matches.
 */
function comparable (headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const ifRange = headers['if-range']
  if (typeof ifRange !== 'string' || !ifRange.includes('"')) return headers
  return { ...headers, 'if-range': /^"[^"]*"$/.test(ifRange) ? `W/${ifRange}` : '""' }
}
