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
 * Downloads with ranges and preconditions (RFC 9110 sections 13 and 14). The name is looked up in the library: only
 * what is listed there can be read. Several ranges in one request are answered with the whole file (section 14.2).
 */
export function fileRoutes (app: FastifyInstance, library: Library): void {
  const serve = (kind: FileKind) => async (request: NamedRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const file = library.findFile(kind, request.params.name)
    if (file === null) throw new FileNotFound()
    const { statusCode, headers, stream } = await opened(await read(file, request))
    // A file that is listed never changes, so its tag is a strong one, as If-Range needs (section 13.1.5).
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
  // `send` reads the method and the headers of a request and nothing else.
  const asked = { method: raw.method, headers: comparable(raw.headers) } as typeof raw
  const path = `/${encodeURIComponent(basename(file.path))}`
  return await send(asked, path, { root: dirname(file.path), index: false, cacheControl: false })
}

/** The file, or the error that its failure means: `send` would answer with a page of HTML. */
async function opened (result: SendResult): Promise<SendResult> {
  const { statusCode, headers, stream, type } = result
  if (type === 'file') {
    // It may have gone since it was looked at: that is known before a header is sent.
    if (stream instanceof ReadStream) {
      await once(stream, 'open').catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'ENOENT' ? new FileNotFound() : error
      })
    }
    return result
  }
  switch (statusCode) {
    // Listed but no longer on disk: removed by hand.
    case 404: throw new FileNotFound()
    case 412: throw new PreconditionFailed()
    case 416: throw new RangeNotSatisfiable({ headers: { 'content-range': headers['Content-Range']! } })
    default: throw new Error(`a listed file cannot be read: status ${statusCode}`)
  }
}

function strong (etag: string): string {
  return etag.replace(/^W\//, '')
}

/** `send` knows weak tags only: a strong If-Range is written as `send` compares it, and a weak one must never match. */
function comparable (headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const ifRange = headers['if-range']
  if (typeof ifRange !== 'string' || !ifRange.includes('"')) return headers
  return { ...headers, 'if-range': /^"[^"]*"$/.test(ifRange) ? `W/${ifRange}` : '""' }
}
