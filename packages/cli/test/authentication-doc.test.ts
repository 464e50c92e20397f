import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { auth, type AuthOptions } from '@marty/auth'
import Fastify from 'fastify'
import t from 'tap'
import { freePort, startRedis, until } from '../../redis/dist-test/redis-server.js'
import { marty } from './run.js'

// For a machine that hangs; nothing here is about speed.
t.setTimeout(300_000)

const page = readFileSync(new URL('../../../docs/security/authentication.md', import.meta.url), 'utf8')
const [service = ''] = page.split('\n## The camera service')
const codeOf = (heading: string): string => new RegExp(`\\n#+ ${heading}\\n[\\s\\S]*?\`\`\`js\\n([\\s\\S]*?)\`\`\``).exec(service)![1]!
/** Shell blocks, each with what it prints. */
const blocks = [...service.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => {
  const lines = block!.split('\n')
  return { code: lines.filter(line => !line.startsWith('# ')).join('\n'), prints: lines.filter(line => line.startsWith('# ')).map(line => `${line.slice(2)}\n`).join('') }
})

// Beside the compiled tests, so that packages are found as from anywhere in the repository.
const folder = mkdtempSync(fileURLToPath(new URL('authentication-', import.meta.url)))
const children: ChildProcess[] = []
t.teardown(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(folder, { recursive: true })
})

/** One shell for all blocks, because later ones use the variables of earlier ones. */
function openShell (env: NodeJS.ProcessEnv): (code: string) => Promise<string> {
  const shell = spawn('bash', ['-u'], { cwd: folder, env })
  children.push(shell)
  let output = ''
  shell.stdout.on('data', chunk => { output += String(chunk) })
  shell.stderr.on('data', chunk => { output += String(chunk) })
  shell.stdin.write(`marty () { "${process.execPath}" "${marty}" "$@"; }\n`)
  return async code => {
    output = ''
    shell.stdin.write(`${code}\necho "== $?"\n`)
    await until(() => /^== \d+\n$/m.test(output), `the end of\n${code}`, 60_000)
    return output
  }
}

/** `…` stands for anything within its line. */
function pattern (prints: string): RegExp {
  return new RegExp('^' + prints.split('…').map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/^ +| +$/g, ' *')).join('.*') + '== 0\n$')
}

t.test('the page works from beginning to end', async t => {
  const port = await freePort()
  const redis = await startRedis(await freePort())
  t.teardown(() => redis.stop())
  const run = openShell({ ...process.env, MARTY_REDIS_URL: `redis://127.0.0.1:${redis.port}` })
  const base = `http://localhost:${port}`
  const here = (code: string): string => code.replaceAll('http://localhost:3000', base)
  writeFileSync(`${folder}/service.mjs`, codeOf('Set up a service').replace('port: 3000', `port: ${port}`))

  for (const [index, { code, prints }] of blocks.entries()) {
    if (code.includes('marty sessions list')) await signInAsPage(base, await tokenOf('alice'))
    t.match(await run(here(code)), pattern(prints), code)
    if (index > 0) continue
    const child = spawn(process.execPath, ['service.mjs'], { cwd: folder, env: { ...process.env, MARTY_REDIS_URL: `redis://127.0.0.1:${redis.port}` }, stdio: ['ignore', 'inherit', 'inherit'] })
    children.push(child)
    await until(async () => (await fetch(`${base}/.well-known/jwks.json`).catch(() => null))?.status === 200, 'the service', 30_000)
  }
  t.ok(blocks.length > 10)

  const sessionCookie = await signInAsPage(base, await tokenOf('alice'))
  const key = (await run('echo "$KEY"')).split('\n')[0]!
  const [token, dave] = [await tokenOf('carol'), await tokenOf('dave')]
  const refresh = (await (await fetch(`${base}/auth/token`, { method: 'POST', headers: { 'x-api-key': key } })).json() as { refresh_token: string }).refresh_token
  const unseen = (await run('marty keys create --pepper-file pepper --prefix cam --environment production --name unseen --expires 1h')).split('\n')[0]!
  const status = async (url: string, headers: Record<string, string>, body?: Record<string, string>): Promise<number> =>
    (await fetch(base + url, { method: body === undefined ? 'GET' : 'POST', headers, ...(Object.keys(body ?? {}).length === 0 ? {} : { body: new URLSearchParams(body) }) })).status
  const bearer = { authorization: `Bearer ${token}` }
  t.equal(await status('/hello', { 'x-api-key': key }), 200)
  t.equal(await status('/hello', { cookie: sessionCookie }), 200)
  t.equal(await status('/hello', bearer), 200)

  await redis.stop()
  await until(async () => await status('/auth/refresh', {}, { refresh_token: refresh }) === 503, 'Redis to be gone')
  t.equal(await status('/hello', bearer), 200, 'a token')
  t.equal(await status('/hello', { 'x-api-key': key }), 200, 'a key in use')
  t.equal(await status('/hello', { 'x-api-key': unseen }), 503, 'any other key')
  await until(async () => await status('/hello', { cookie: sessionCookie }) === 503, 'a session')
  t.equal(await status('/auth/session', bearer, {}), 503, 'signing in')
  t.equal(await status('/auth/logout', { authorization: `Bearer ${dave}` }, {}), 503, 'logging out')
  t.equal(await status('/auth/revoke', {}, { token }), 503, 'revoking')
  for (const ended of [token, dave]) t.equal(await status('/hello', { authorization: `Bearer ${ended}` }), 401, 'counts here at once')

  async function tokenOf (subject: string): Promise<string> {
    return (await run(`marty token issue --issuer https://cameras.example --audience cameras --subject ${subject} --role viewer --signing-keys signing-keys.json`)).split('\n')[0]!
  }
})

/** Runs the page's own code, up to its sign-out, and answers the cookie. */
async function signInAsPage (base: string, token: string): Promise<string> {
  const { cookie } = await runAsPage(base, token, codeOf('Browser sessions').split('\n').slice(0, 2).join('\n'))
  return cookie
}

async function runAsPage (base: string, token: string, code: string): Promise<{ cookie: string, statuses: number[] }> {
  let cookie = ''
  const statuses: number[] = []
  const fetchOfPage = async (url: string, init: { headers: Record<string, string> }): Promise<Response> => {
    const response = await fetch(base + url, { ...init, headers: { ...init.headers, origin: base, ...(cookie === '' ? {} : { cookie }) } })
    statuses.push(response.status)
    cookie = response.headers.getSetCookie()[0]?.split(';')[0] ?? cookie
    return response
  }
  const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => (fetch: unknown, token: string) => Promise<void>
  await new AsyncFunction('fetch', 'token', code)(fetchOfPage, token)
  return { cookie, statuses }
}

t.test('the code of the page in a browser', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(auth, { ...OPTIONS, routes: true })
  const base = await app.listen({ port: 0 })
  const { statuses } = await runAsPage(base, app.tokens.issue({ subject: 'alice' }).token, codeOf('Browser sessions'))
  t.same(statuses, [201, 204])
})

t.test('the other issuer is one that auth takes', async t => {
  const code = `${codeOf('Trust another issuer')}; export { issuers }`
  const { issuers } = await import(`data:text/javascript,${encodeURIComponent(code)}`) as { issuers: NonNullable<AuthOptions['issuers']> }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(auth, { ...OPTIONS, issuers })
  await t.resolves(async () => { await app.ready() }, 'it starts')
  const { rolesOf } = issuers[0]! as unknown as { rolesOf: (claims: object) => string[] }
  t.same([rolesOf({ groups: ['camera-operators'] }), rolesOf({})], [['operator'], []])
})

const OPTIONS: AuthOptions = { issuer: 'i', audience: 'a', keys: { signing: { kid: 'k1', algorithm: 'EdDSA', privateKey: await newKey() } } }

async function newKey (): Promise<string> {
  const openssl = spawn('openssl', ['genpkey', '-algorithm', 'ed25519'])
  let pem = ''
  openssl.stdout.on('data', chunk => { pem += String(chunk) })
  await once(openssl, 'close')
  return pem
}
