import type { Permission } from '@marty/rbac'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import type { FileKind } from '../../library/library.js'
import type { ApiParts } from '../parts.js'
import { fileView } from '../view.js'

const page = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 50 })),
  offset: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000_000, default: 0 }))
}, { additionalProperties: false })

/** list_recordings, list_snapshots: newest first. */
export function libraryMethods (app: FastifyInstance, parts: ApiParts): void {
  const list = (name: string, kind: FileKind, permission: Permission): void => {
    app.rpc.method({
      name,
      summary: `The stored ${kind}s, newest first.`,
      security: { permission },
      params: page,
      handler: ({ limit = 50, offset = 0 }) => {
        const { files, total } = parts.library.listFiles(kind, limit, offset)
        return { files: files.map(fileView), total, limit, offset }
      }
    })
  }
  list('list_recordings', 'recording', 'recording:view')
  list('list_snapshots', 'snapshot', 'snapshot:view')
}
