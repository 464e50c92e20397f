import { security } from '@marty/security'
import type { FastifyInstance } from 'fastify'
import { optionsFor } from '../../service.js'

/** The mistake: without fastify-plugin, what is registered here ends with this function's scope. */
export default async function securityFile (fastify: FastifyInstance): Promise<void> {
  await fastify.register(security, { ...optionsFor('/nowhere'), audit: false })
}
