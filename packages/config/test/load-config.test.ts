/* eslint no-template-curly-in-string: off -- references in YAML are written like this */
import t from 'tap'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from 'typebox'
import { ConfigError, environment, formatConfig, loadConfig, showConfig, type SourceProblem } from '@marty/config'

const schema = Type.Object({
  server: Type.Object({
    host: Type.String({ default: '127.0.0.1', description: 'Address to listen on' }),
    port: Type.Integer({ minimum: 1, maximum: 65535, default: 8002 }),
    max_connections: Type.Integer({ minimum: 1, default: 100 })
  }),
  security: Type.Object({
    jwt_secret: Type.String({ minLength: 8, secret: true, description: 'Key that tokens are signed with' }),
    pin: Type.Optional(Type.Integer({ secret: true })),
    allowed_origins: Type.Array(Type.String(), { default: [] })
  }),
  mode: Type.Union([Type.Literal('development'), Type.Literal('production')], { default: 'development' }),
  redis_url: Type.Union([Type.String(), Type.Null()], { default: null }),
  ratio: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 0.5 }),
  tls: Type.Optional(Type.Object({ cert: Type.String(), enabled: Type.Boolean({ default: true }) })),
  cameras: Type.Array(Type.Object({ name: Type.String(), fps: Type.Integer({ default: 30 }) }), { default: [] }),
  limits: Type.Record(Type.String({ pattern: '^[a-z]+$' }), Type.Integer({ minimum: 1 }), { default: { viewer: 60 } })
})

const folder = mkdtempSync(join(tmpdir(), 'marty-config-'))
t.teardown(() => { rmSync(folder, { recursive: true }) })
let files = 0
function write (text: string): string {
  const file = join(folder, `c${++files}.yaml`)
  writeFileSync(file, text)
  return file
}

const secret = { JWT: 'correct horse battery' }
const load = (text: string, env: Record<string, string> = secret) => {
  return loadConfig({ schema, file: write(text), env, envPrefix: 'CAMERA_SERVICE' })
}

function problemsOf (text: string, env?: Record<string, string>): readonly SourceProblem[] {
  return problemsIn(() => load(text, env))
}

function problemsIn (act: () => unknown): readonly SourceProblem[] {
  try {
    act()
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

function at (problems: readonly SourceProblem[]): string[] {
  return problems.map(({ line, column, message }) => `${line}:${column} ${message}`)
}

t.test('all mistakes are reported together, with their positions and what was found', async t => {
  const text = `server:
  prot: 8002
  port: 70000
  max_connections: many
security:
  jwt_secret: 12345678
  allowed_origins: everybody
mode: prodution
ratio: 0
tls: {enabled: yes}
cameras:
  - fps: 30
  - name: 5
limits: {Viewer: 5, operator: 0}
sever: {}
`
  t.same(at(problemsOf(text)), [
    '2:3 unknown key "prot" in server; did you mean "port"?',
    '3:9 server.port must be at most 65535; found the number 70000',
    '4:20 server.max_connections must be a whole number; found the string "many"',
    '6:15 security.jwt_secret must be a string; found a number (not shown); write it in quotes',
    '7:20 security.allowed_origins must be a list; found the string "everybody"',
    '8:7 mode must be one of "development", "production"; found the string "prodution"; did you mean "production"?',
    '9:8 ratio must be more than 0; found the number 0',
    '10:1 tls.cert is required',
    '10:16 tls.enabled must be true or false; found the string "yes"',
    '12:5 cameras[0].name is required',
    '13:11 cameras[1].name must be a string; found the number 5; write it in quotes',
    '14:10 "Viewer" is not a valid name in limits; names must match ^[a-z]+$',
    '14:31 limits.operator must be at least 1; found the number 0',
    '15:1 unknown key "sever"; did you mean "server"?'
  ])
})

t.test('the message of the error lists them as file:line:column', async t => {
  const file = write('mode: 1\nsecurity: {jwt_secret: abc}\n')
  t.throws(() => loadConfig({ schema, file, env: {} }), {
    code: 'MARTY_CONFIG_INVALID',
    message: [
      'The configuration has 2 problems:',
      `  ${file}:1:7: mode must be one of "development", "production"; found the number 1`,
      `  ${file}:2:24: security.jwt_secret must have at least 8 characters`
    ].join('\n')
  })
})

t.test('YAML that cannot be read as one plain document is refused with its position', async t => {
  t.same(at(problemsOf('mode: production\nratio: 1\nmode: development\n')), [
    '3:1 this key is written twice in the same mapping'
  ])
  t.same(at(problemsOf('server:\n\tport: 1\n')), ['2:1 a tab is used for indentation; use spaces'])
  t.same(at(problemsOf('mode: production\n---\nmode: development\n')), [
    '2:1 a second document begins here; a file must contain only one'
  ])
  t.same(at(problemsOf('a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n')), [
    '2:8 the alias *a is not supported; write the value out',
    '3:5 the alias *b is not supported; write the value out'
  ])
  t.same(at(problemsOf('mode: !!js/function "x"\n')), ['1:7 this tag is not supported'])
  t.same(at(problemsOf('server:\n  __proto__: {port: 1}\n')), ['2:3 the key "__proto__" is not allowed'])
  t.match(at(problemsOf('server: {port: 1\nmode: "\\q"\n')), ['1:9 the { that opens here is not closed'])
  t.match(at(problemsOf('['.repeat(20_000))), [/^1:\d+ /], 'nested without limit')
  t.match(at(problemsOf('- a list\n')), ['1:1 the file must be a mapping; found a list'])
})

t.test('a file that cannot be read is named', async t => {
  const read = (file: string): readonly SourceProblem[] => problemsIn(() => loadConfig({ schema, file, env: {} }))
  const absent = join(folder, 'absent.yaml')
  t.match(read(absent), [{ source: absent, message: 'cannot be read: there is no such file' }])
  t.match(read(folder), [{ source: folder, message: 'cannot be read: it is a folder' }])
})

t.test('references that are unset, malformed or unreadable are reported, each once', async t => {
  const text = 'security:\n  jwt_secret: ${JWT}\nserver:\n  host: "${a-b}"\nredis_url: ${file:gone}\nmode: "x${y"\n'
  t.same(at(problemsOf(text, {})), [
    '2:15 security.jwt_secret: the variable JWT is not set; set it, or give a default: ${JWT:default}',
    '4:9 server.host: "${a-b}" does not name a variable; use letters, digits and _, or ${file:/path}',
    '5:12 redis_url: gone cannot be read (ENOENT)',
    '6:7 mode: "${" has no closing brace; write "$${" for a literal "${"'
  ])
})

t.test('the value of a reference is never repeated in a message', async t => {
  const problems = problemsOf('server: {port: "${JWT}"}\nmode: ${JWT}\nsecurity: {jwt_secret: "${JWT}"}\n')
  t.same(at(problems), [
    '1:16 server.port must be a whole number; found a string (not shown)',
    '2:7 mode must be one of "development", "production"; found a string (not shown)'
  ])
})

t.test('references are replaced, as whole strings or parts, and converted to the type in the schema', async t => {
  writeFileSync(join(folder, 'secret.txt'), 'from a file, with = and #\n')
  const text = `security:
  jwt_secret: \${file:secret.txt}
  allowed_origins: \${ORIGINS}
server:
  port: \${PORT:9000}
  host: \${A}.\${B:example}.org:$\${x}
redis_url: \${NONE:}
ratio: \${RATIO}
cameras: [{name: "\${A}"}]
`
  const { value } = load(text, { ORIGINS: 'https://a.example, https://b.example', A: 'cam', RATIO: '0.25' })
  t.same(value, {
    server: { host: 'cam.example.org:${x}', port: 9000, max_connections: 100 },
    security: {
      jwt_secret: 'from a file, with = and #',
      allowed_origins: ['https://a.example', 'https://b.example']
    },
    mode: 'development',
    redis_url: null,
    ratio: 0.25,
    cameras: [{ name: 'cam', fps: 30 }],
    limits: { viewer: 60 }
  })
})

t.test('overrides: a misspelt name, a wrong type and a value out of range are reported by name', async t => {
  const problems = problemsOf('security: {jwt_secret: "${JWT}"}\n', {
    ...secret,
    CAMERA_SERVICE_SERVER_PROT: '1',
    CAMERA_SERVICE_SERVER_PORT: '0',
    CAMERA_SERVICE_SERVER_MAX_CONNECTIONS: 'many',
    CAMERA_SERVICE_SECURITY_PIN: 'hunter2',
    CAMERA_SERVICE_LIMITS: 'viewer=3'
  })
  t.match(problems.map(({ source, message }) => `${source}: ${message}`).sort(), [
    'environment CAMERA_SERVICE_LIMITS: is not the name of a setting',
    'environment CAMERA_SERVICE_SECURITY_PIN: security.pin must be a whole number; found a string (not shown)',
    'environment CAMERA_SERVICE_SERVER_MAX_CONNECTIONS: ' +
      'server.max_connections must be a whole number; found the string "many"',
    'environment CAMERA_SERVICE_SERVER_PORT: server.port must be at least 1; found the number 0',
    'environment CAMERA_SERVICE_SERVER_PROT: is not the name of a setting; ' +
      'did you mean "CAMERA_SERVICE_SERVER_PORT"?'
  ])
})

t.test('defaults, then the file, then the environment; each value has its origin', async t => {
  const file = write(`server:
  port: 9000
  max_connections: \${GONE}
security:
  jwt_secret: \${JWT}
tls:
  cert: /c.pem
`)
  const loaded = loadConfig({
    schema,
    file,
    envPrefix: 'CAMERA_SERVICE',
    reservedEnv: ['CAMERA_SERVICE_CONFIG'],
    env: {
      ...secret,
      CAMERA_SERVICE_SERVER_MAX_CONNECTIONS: '7',
      CAMERA_SERVICE_SECURITY_ALLOWED_ORIGINS: 'a, b',
      CAMERA_SERVICE_TLS_ENABLED: 'false',
      CAMERA_SERVICE_REDIS_URL: '',
      CAMERA_SERVICE_CONFIG: file,
      CAMERA_SERVICE_SERVICE_HOST: '10.0.0.1',
      CAMERA_SERVICE_SERVER_PORT: 'tcp://10.0.0.1:8002',
      CAMERA_SERVICE_PORT_8002_TCP_ADDR: '10.0.0.1'
    }
  })
  const server = { host: '127.0.0.1', port: 9000, max_connections: 7 }
  t.same(loaded.value.server, server, 'variables that Kubernetes sets for a Service are not overrides')
  t.same(loaded.value.security.allowed_origins, ['a', 'b'])
  t.same(loaded.value.tls, { cert: '/c.pem', enabled: false })
  t.equal(loaded.value.redis_url, null)
  t.match(Object.fromEntries(loaded.origins), {
    'server.host': 'default',
    'server.port': `${file}:2:9`,
    'server.max_connections': 'environment CAMERA_SERVICE_SERVER_MAX_CONNECTIONS',
    'security.allowed_origins': 'environment CAMERA_SERVICE_SECURITY_ALLOWED_ORIGINS',
    'tls.cert': `${file}:7:9`
  })
})

t.test('an empty file, a file of comments and empty sections give the defaults', async t => {
  const env = { CAMERA_SERVICE_SECURITY_JWT_SECRET: 'correct horse' }
  for (const text of ['', '# server:\n#   port: 1\n\n', 'server:\n  # port: 1\n', '\uFEFFratio: 0.5\r\n']) {
    t.equal(load(text, env).value.server.port, 8002, JSON.stringify(text))
  }
  t.equal(loadConfig({ schema, env, envPrefix: 'CAMERA_SERVICE' }).value.limits['viewer'], 60)
  const message = 'security.jwt_secret is required (Key that tokens are signed with)'
  t.same(problemsIn(() => loadConfig({ schema, env: {} })), [{ source: 'configuration', line: 0, column: 0, message }])
})

t.test('the value is frozen at every depth', async t => {
  const { value } = load('security: {jwt_secret: "${JWT}"}\ncameras: [{name: a}]\n')
  t.throws(() => { (value.server as { port: number }).port = 1 }, TypeError)
  t.throws(() => { (value.cameras as unknown as string[]).push('b') }, TypeError)
  t.throws(() => { (value.cameras[0] as { name: string }).name = 'b' }, TypeError)
})

t.test('a schema in which two settings would share a variable is refused', async t => {
  const text = Type.String({ default: '' })
  const clash = Type.Object({ a: Type.Object({ b_c: text }), a_b: Type.Object({ c: text }) })
  t.throws(() => loadConfig({ schema: clash, env: {}, envPrefix: 'X' }), /share the variable X_A_B_C/)
})

t.test('settings are shown with their origins and without secrets', async t => {
  const loaded = load('security: {jwt_secret: "${JWT}", pin: 1234}\nlimits: {viewer: 5}\n')
  const shown = showConfig(loaded)
  t.match(shown.find(({ key }) => key === 'security.jwt_secret'), {
    value: '********',
    origin: /:1:24$/,
    description: 'Key that tokens are signed with'
  })
  t.match(shown.find(({ key }) => key === 'limits.viewer'), { value: 5 })
  const text = formatConfig(shown)
  t.match(text, /^server\.port = 8002 +\(default\)$/m)
  t.notMatch(JSON.stringify(shown) + text, /correct horse|1234/)
})

t.test('environment reads one variable', async t => {
  t.equal(environment('PATH'), process.env['PATH'])
  t.equal(environment('MARTY_SURELY_NOT_SET'), undefined)
})
