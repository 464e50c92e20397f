import './augment.js'
import { useGuard, type Metric, type SecurityEvent } from '@marty/core'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import type { Audit } from './audit.js'
import { auditRequiredCheck, auditRuleCheck } from './checks.js'
import { recordHttpOutcomes } from './http-outcomes.js'
import { createLimitSampler } from './limit-sampler.js'
import { openLog } from './sinks/open-log.js'
import { resolveOptions, type AuditOptions } from './options.js'
import { createRecordSerializer } from './record.js'
import { createRuleFilter } from './rule-filter.js'
import type { WriterState } from './writer.js'

const plugin: FastifyPluginAsync<AuditOptions> = async (fastify, options) => {
  const resolved = resolveOptions(options)
  const guard = useGuard(fastify)
  const isOn = resolved.sink.name !== 'none'
  guard.addCheck(auditRuleCheck(isOn && resolved.mode === 'sync', isOn))
  const writer = await openLog(resolved, fastify.log)
  if (writer === null) {
    fastify.decorate('audit', {
      record: async () => {},
      health: () => ({ status: 'healthy', details: { sink: 'none', lostEvents: 0, lastError: null, queued: 0 } })
    })
    return
  }

  const serialize = createRecordSerializer(resolved.product, resolved.secretNames)
  const isRecorded = createRuleFilter(guard)
  const record = async (event: SecurityEvent): Promise<void> => { await writer.write(serialize(event)) }
  const audit: Audit = {
    record,
    health () {
      const { healthy, lostEvents, lastError, queued } = writer.state()
      return {
        status: healthy ? 'healthy' : 'unhealthy',
        details: { sink: resolved.sink.name, lostEvents, lastError, queued }
      }
    }
  }
  fastify.decorate('audit', audit)
  guard.addMetrics(() => logReadings(writer.state()))
  const sampler = createLimitSampler(event => { void record(event).catch(() => {}) })
  guard.addSink(async event => {
    if (isRecorded(event) && (event.type !== 'limit' || sampler.isFirst(event))) await record(event)
  })
  guard.addCheck(auditRequiredCheck(record))
  recordHttpOutcomes(fastify, record)

  fastify.addHook('onReady', async () => { await record(lifecycle('service.start')).catch(() => {}) })
  fastify.addHook('onClose', async () => {
    sampler.close()
    void record(lifecycle('service.stop')).catch(() => {})
    await writer.close().catch((error: unknown) => {
      fastify.log.error({ err: error }, 'the audit log was not closed properly')
    })
  })
}

/** The state of the log, for `@marty/metrics`. */
function logReadings ({ healthy, lostEvents, queued }: WriterState): Metric[] {
  return [
    {
      name: 'audit_healthy',
      help: '1 when the last write to the audit log succeeded.',
      type: 'gauge',
      values: [{ value: healthy ? 1 : 0 }]
    },
    {
      name: 'audit_queued_events',
      help: 'Events that wait to be written to the audit log.',
      type: 'gauge',
      values: [{ value: queued }]
    },
    {
      name: 'audit_lost_events_total',
      help: 'Events that could not be written to the audit log.',
      type: 'counter',
      values: [{ value: lostEvents }]
    }
  ]
}

function lifecycle (action: string): SecurityEvent {
  return {
    type: 'service',
    action,
    outcome: 'success',
    reason: null,
    principal: { id: 'service', kind: 'service', roles: [] },
    address: null,
    requestId: null
  }
}

/**
 * Writes an audit log of security events: one JSON line per event, in a hash chain with signed checkpoints that
 * reveal every later change.
 *
 * @throws `MARTY_AUDIT_OPT_INVALID`, `MARTY_AUDIT_FILE_INVALID`, `MARTY_AUDIT_STREAM_TAKEN`
 * @example
 * await app.register(audit, {
 *   sink: { file: 'data/audit.log', mode: 'sync' },
 *   product: { name: 'camera-service', version: '1.0.0' }
 * })
 * app.delete('/cameras/:id', { config: { security: { authenticate: true, audit: 'required' } } }, handler)
 */
export const audit: FastifyPluginAsync<AuditOptions> = fp(plugin, { name: '@marty/audit', fastify: '5.x' })
export default audit

export type { Audit, AuditHealth } from './audit.js'
export type { ChainHead } from './chain.js'
export { AuditFileInvalid, AuditOptionInvalid, AuditStreamTaken, AuditUnavailable } from './errors.js'
export type { AuditPlace } from './entries.js'
export type { AuditRetention, AuditRotation, FileSinkOptions } from './sinks/file-sink.js'
export type { AuditCheckpoints } from './checkpoints/checkpoint-log.js'
export { verifyCheckpoint, type SignedCheckpoint } from './checkpoints/checkpoint.js'
export {
  loggerOptions, secretFreeSerializers, type SecretFreeLoggerOptions, type SecretFreeSerializers,
  type SerializedError, type SerializedRequest
} from './logger.js'
export { OCSF_VERSION, type Classification } from './ocsf.js'
export type { AuditOptions } from './options.js'
export type { AuditProduct, AuditRecord } from './record.js'
export { redactText } from './redact.js'
export type { RedisSinkOptions } from './sinks/redis-sink.js'
export type { AuditSink, ResumePoint } from './sinks/sink.js'
export { tailAuditLog, type AuditLine, type TailOptions } from './sinks/tail.js'
export type {
  AuditBroken, AuditFault, AuditFaultKind, AuditUnproven, AuditUnprovenRange, AuditVerification, AuditVerified,
  VerifyOptions
} from './verify/verification.js'
export { verifyAuditLog } from './verify/verify.js'
