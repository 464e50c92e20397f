import './augment.js'
import { useGuard, type SecurityEvent } from '@marty/core'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import type { Audit } from './audit.js'
import { auditRequiredCheck, auditRuleCheck } from './checks.js'
import { recordHttpOutcomes } from './http-success.js'
import { createLimitSampler } from './limit-sampler.js'
import { resolveOptions, type AuditOptions } from './options.js'
import { createRecorder } from './record.js'
import { createRuleFilter } from './rule-filter.js'
import { createAuditWriter } from './writer.js'

const plugin: FastifyPluginAsync<AuditOptions> = async (fastify, options) => {
  const { sink, mode, secretNames, product } = resolveOptions(options)
  const guard = useGuard(fastify)
  guard.addCheck(auditRuleCheck(sink !== null && mode === 'sync'))
  if (sink === null) {
    fastify.decorate('audit', {
      record: async () => {},
      health: () => ({ status: 'healthy', details: { sink: 'none', lostEvents: 0, lastError: null, queued: 0 } })
    })
    return
  }

  let toldAt = -Infinity
  const writer = createAuditWriter({
    sink,
    mode,
    onError (error, lostEvents) {
      // A full disk fails every event; its log would be next.
      if (Date.now() - toldAt < 10_000) return
      toldAt = Date.now()
      fastify.log.error({ err: error, lostEvents }, 'audit events cannot be written')
    }
  })
  await writer.open()

  const toRecord = createRecorder(product, secretNames)
  const concerns = createRuleFilter(guard)
  const record = async (event: SecurityEvent): Promise<void> => { await writer.write(toRecord(event)) }
  const sinkName = options.sink === 'stdout' ? 'stdout' : typeof options.sink === 'object' && 'file' in options.sink ? 'file' : 'custom'
  const audit: Audit = {
    record,
    health () {
      const { healthy, lostEvents, lastError, queued } = writer.state()
      return { status: healthy ? 'healthy' : 'unhealthy', details: { sink: sinkName, lostEvents, lastError, queued } }
    }
  }
  fastify.decorate('audit', audit)
  const sampler = createLimitSampler(event => { void record(event).catch(() => {}) })
  guard.addSink(async event => {
    if (concerns(event) && (event.type !== 'limit' || sampler.isFirst(event))) await record(event)
  })
  guard.addCheck(auditRequiredCheck(record))
  recordHttpOutcomes(fastify, record)

  fastify.addHook('onReady', async () => { await record(lifecycle('service.start')).catch(() => {}) })
  fastify.addHook('onClose', async () => {
    sampler.close()
    void record(lifecycle('service.stop')).catch(() => {})
    await writer.close().catch((error: unknown) => { fastify.log.error({ err: error }, 'the audit log was not closed properly') })
  })
}

function lifecycle (action: string): SecurityEvent {
  return { type: 'service', action, outcome: 'success', reason: null, principal: { id: 'service', kind: 'service', roles: [] }, address: null, requestId: null }
}

/**
 * Writes security events down, one JSON line each, in a chain of hashes that shows every later change.
 *
 * @throws `MARTY_AUDIT_OPT_INVALID`, `MARTY_AUDIT_FILE_INVALID`
 * @example
 * await app.register(audit, { sink: { file: 'data/audit.log', mode: 'sync' }, product: { name: 'camera-service', version: '1.0.0' } })
 * app.delete('/cameras/:id', { config: { security: { authenticate: true, audit: 'required' } } }, handler)
 */
export const audit: FastifyPluginAsync<AuditOptions> = fp(plugin, { name: '@marty/audit', fastify: '5.x' })
export default audit

export type { Audit, AuditHealth } from './audit.js'
export type { ChainHead } from './chain.js'
export { AuditFileInvalid, AuditOptionInvalid, AuditUnavailable } from './errors.js'
export type { FileSinkOptions } from './file-sink.js'
export type { AuditOptions } from './options.js'
export type { AuditProduct, AuditRecord } from './record.js'
export type { AuditSink, ResumePoint } from './sink.js'
export { verifyAuditFile, type AuditBroken, type AuditVerification, type AuditVerified } from './verify.js'
