import Fastify from 'fastify'
import { rbac } from '@marty/rbac'
import { openRedis } from '@marty/redis'
import { POLICY } from './policy-text.js'

// A service that follows the policy in Redis, and prints each that it takes: time, hash, staleness.

const [port, listens] = process.argv.slice(2)
const url = `redis://127.0.0.1:${port}`
const connection = openRedis({ url })
const subscription = listens === 'listens' ? openRedis({ url }) : null
const app = Fastify()
await app.register(rbac, {
  policy: POLICY,
  environment: 'prod',
  reload: { redis: { client: connection.client, ...subscription === null ? {} : { subscriber: subscription.client } } }
})
let told = ''
setInterval(() => {
  const { sha256, stale } = app.rbac.status
  const news = `${sha256} ${stale}`
  if (news !== told) process.stdout.write(`${Date.now()} ${told = news}\n`)
}, 2)
