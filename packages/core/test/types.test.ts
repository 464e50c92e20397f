import t from 'tap'
import Fastify from 'fastify'
import {
  ANONYMOUS, checkOptions, defineError, useGuard, type AuthenticationMethod, type Authenticator, type Check,
  type MartyErrorConstructor, type OptionTable, type Principal, type SecurityRule
} from '@marty/core'

// The compiler checks this file; running it shows only that the right uses work.

const Refused: MartyErrorConstructor<'MARTY_TEST_REFUSED'> = defineError({
  name: 'Refused',
  code: 'MARTY_TEST_REFUSED',
  statusCode: 403,
  message: 'no'
})

t.test('an error class has its code as a literal type', async t => {
  const { code }: { code: 'MARTY_TEST_REFUSED' } = new Refused({ data: { field: 'a' } })
  t.equal(code, 'MARTY_TEST_REFUSED')

  // @ts-expect-error the code is that of the definition
  const other: { code: 'MARTY_TEST_OTHER' } = new Refused('not today')
  // @ts-expect-error a definition needs a status
  const incomplete = (): unknown => defineError({ name: 'Incomplete', code: 'MARTY_TEST_INCOMPLETE', message: 'no' })
  t.equal(other.code, 'MARTY_TEST_REFUSED')
  t.type(incomplete, 'function')
})

t.test('a rule has only the members that some package declares', async t => {
  const rules: SecurityRule[] = [{ public: true }, { authenticate: true }, { authenticate: ['jwt', 'session'] }]

  // @ts-expect-error a route is public or says nothing about it
  const notPublic: SecurityRule = { public: false }
  // @ts-expect-error there is no such method of authentication
  const method: SecurityRule = { authenticate: ['password'] }
  // @ts-expect-error a misspelt member
  const misspelt: SecurityRule = { autenticate: true }
  t.equal([...rules, notPublic, method, misspelt].length, 6)
})

t.test('a principal cannot be changed', async t => {
  const caller: Principal = ANONYMOUS
  const by: AuthenticationMethod | null = caller.authenticatedBy
  t.equal(by, null)
  // @ts-expect-error principals are shared between requests
  t.throws(() => { caller.id = 'root' }, TypeError)
  // @ts-expect-error so are their roles
  t.throws(() => { caller.roles.push('admin') }, TypeError)
})

t.test('checks and authenticators have types', async t => {
  const check: Check = {
    name: 'local',
    stage: 'admit',
    keys: ['local'],
    compile: () => call => call.address === null ? undefined : new Refused()
  }
  const authenticator: Authenticator = {
    method: 'jwt',
    find: () => null,
    accepts: () => false,
    authenticate: () => ANONYMOUS
  }
  const app = Fastify()
  t.teardown(() => app.close())
  const guard = useGuard(app)
  guard.addCheck(check)
  guard.addAuthenticator(authenticator)

  // @ts-expect-error there is no such stage
  const stage: Check = { ...check, stage: 'later' }
  // @ts-expect-error a check refuses with an error
  const verdict: Check = { ...check, compile: () => () => false }
  // @ts-expect-error an authenticator returns a principal
  const name: Authenticator = { ...authenticator, authenticate: () => 'ada' }
  t.equal([stage, verdict, name].length, 3)
})

t.test('an option table must agree with the options it declares', async t => {
  interface Given { readonly path?: string, readonly retries?: number }
  const table: OptionTable<Given> = {
    path: { kind: 'string', default: '/', about: 'URL path' },
    retries: { kind: 'integer', min: 0, default: 3, about: 'How often a call is repeated' }
  }
  const scope = { subject: 'test', refuse: (message: string) => new Refused(message) }
  const checked: Required<Given> = checkOptions(table, {}, scope)
  t.same(checked, { path: '/', retries: 3 })

  // @ts-expect-error a default of another type
  const wrongDefault: OptionTable<Given> = { ...table, retries: { kind: 'integer', min: 0, default: '3', about: 'Retries' } }
  // @ts-expect-error a kind of another type
  const wrongKind: OptionTable<Given> = { ...table, path: { kind: 'boolean', default: true, about: 'URL path' } }
  // @ts-expect-error every option is declared
  const missing: OptionTable<Given> = { path: table.path }
  t.equal([wrongDefault, wrongKind, missing].length, 3)
})
