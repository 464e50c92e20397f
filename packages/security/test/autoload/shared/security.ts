import { security } from '@marty/security'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { optionsFor } from '../../service.js'

export default fp(async (fastify: FastifyInstance): Promise<void> => {
  await fastify.register(security, { ...optionsFor('/nowhere'), audit: false })
})
