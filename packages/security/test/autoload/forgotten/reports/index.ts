import type { FastifyInstance } from 'fastify'

export default async function reports (fastify: FastifyInstance): Promise<void> {
  fastify.get('/', async () => 'secret')
}
