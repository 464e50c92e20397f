import fastifySwagger from '@fastify/swagger'
import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
import { createService } from './service.js'

type Document = Readonly<Record<string, any>>

t.test('the OpenAPI document says what the enforced rules mean, and is valid', async t => {
  const { app } = await createService(t, options => ({
    ...options,
    limits: { rules: { all: { limit: 9, windowMs: 1000, by: 'address' } }, apply: { http: ['all'] } }
  }))
  await app.register(fastifySwagger, {
    openapi: { openapi: '3.1.0', info: { title: 'Reports', version: '1.0.0' } },
    transformObject: ({ openapiObject }: any) => app.security.openApi(openapiObject)
  })
  const handler = async (): Promise<string> => 'ok'
  const schema = { response: { 200: { description: 'The report', type: 'string' } } }
  app.get('/reports/:id', { schema, config: { security: { permission: 'report:read' } } }, handler)
  app.put('/reports/:id/parts/:part', { config: { security: { roles: ['writer'], authenticate: ['session'] } } }, handler)
  app.get('/me', { config: { security: { authenticate: true, limits: false } } }, handler)
  app.get('/articles', { config: { security: { authenticate: 'optional' } } }, handler)
  app.get('/open', { config: { security: { public: true, limits: false } } }, handler)
  await app.ready()
  const document = app.swagger() as Document

  const result = await new Validator().validate(structuredClone(document))
  t.same(result.errors ?? [], [])
  const { paths, components } = document
  const problem = (name: string): object => ({ $ref: `#/components/responses/${name}` })
  t.match(paths['/reports/{id}'].get, {
    security: [{ session: [] }, { jwt: [] }],
    'x-permission': 'report:read',
    'x-rate-limit': ['all'],
    responses: {
      200: { description: 'The report' },
      401: problem('Unauthorized'),
      403: problem('Forbidden'),
      429: problem('TooManyRequests')
    }
  })
  t.match(paths['/reports/{id}/parts/{part}'].put, { security: [{ session: [] }], 'x-roles': ['writer'] })
  t.same(Object.keys(paths['/me'].get.responses), ['200', '401'], 'no permission, no limit')
  t.match(paths['/articles'].get.security, [{}, { session: [] }, { jwt: [] }])
  t.same(paths['/open'].get.security, [])
  t.same(Object.keys(paths['/open'].get.responses), ['200'])
  t.match(components.securitySchemes, {
    jwt: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
    session: { type: 'apiKey', in: 'cookie', name: '__Host-session' }
  })

  // Each refusal is what the document promises.
  const refused = await app.inject('/reports/7')
  t.equal(refused.statusCode, 401)
  t.match(refused.headers['content-type'], /^application\/problem\+json/)
  t.ok(refused.headers['www-authenticate'])
  t.same(components.schemas.Problem.required.filter((name: string) => !(name in refused.json())), [])
})

t.test('a document with operations that the application does not have, or with own schemes, keeps them', async t => {
  const { app } = await createService(t)
  app.get('/me', { config: { security: { authenticate: true } } }, async () => 'me')
  await app.ready()
  const own = {
    openapi: '3.1.0',
    paths: {
      '/elsewhere': { get: { security: [{ own: [] }], responses: {} } },
      '/me': { summary: 'Me', get: { operationId: 'me' } }
    },
    components: { securitySchemes: { own: { type: 'http', scheme: 'basic' } }, schemas: { Problem: { type: 'object' } } }
  }
  const document = app.security.openApi(own) as Document
  t.same(document.paths['/elsewhere'], own.paths['/elsewhere'])
  t.match(document.paths['/me'], { summary: 'Me', get: { operationId: 'me', security: [{ session: [] }, { jwt: [] }] } })
  t.match(document.components.securitySchemes, { own: { scheme: 'basic' }, jwt: {} })
  t.same(document.components.schemas.Problem, { type: 'object' })
  t.notOk('securitySchemes' in { ...own.paths }, 'the given document is not changed')
  t.notOk('security' in own.paths['/me'].get)
})
