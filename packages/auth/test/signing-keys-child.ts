import { auth, openSigningKeys, rotateSigningKeys } from '@marty/auth'
import { problemErrorHandler, useGuard } from '@marty/core'
import Fastify from 'fastify'
import { AUDIENCE, ISSUER } from '@marty/testing/tokens'

// A process of its own for signing-keys.test: `serve FILE` answers on a free port, `rotate FILE ALGORITHM` rotates for
// ever.
const [, , task, file = '', algorithm] = process.argv
if (task === 'serve') {
  const app = Fastify()
  useGuard(app, { strict: true })
  app.setErrorHandler(problemErrorHandler)
  await app.register(auth, { issuer: ISSUER, audience: AUDIENCE, keys: openSigningKeys(file), routes: true })
  app.get('/who', { config: { security: { authenticate: true } } }, async request => request.principal)
  app.get('/issue', { config: { security: { public: true } } }, async () => app.auth.tokens.issue({ subject: 'alice' }))
  console.log(await app.listen({ port: 0, host: '127.0.0.1' }))
} else if (task === 'once') {
  console.log((await rotateSigningKeys(file, { algorithm: algorithm as 'HS256' })).kid)
} else {
  for (;;) console.log((await rotateSigningKeys(file, { algorithm: algorithm as 'HS256', activatesInSeconds: 0 })).kid)
}
