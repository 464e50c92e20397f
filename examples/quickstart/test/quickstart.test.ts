import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'

interface Running { readonly url: string, readonly authorization: string }

async function start (t: Test): Promise<Running> {
  const server = fileURLToPath(import.meta.resolve('@marty/example-quickstart/server.js'))
  const child: ChildProcess = spawn(process.execPath, [server, '0'])
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  return await new Promise<Running>((resolve, reject) => {
    child.stderr?.on('data', chunk => { output += String(chunk) })
    child.stdout?.on('data', chunk => {
      output += String(chunk)
      const printed = /Authorization: (Bearer [^']+)' (http:\S+)\/reports\n/.exec(output)
      if (printed !== null) resolve({ authorization: printed[1]!, url: printed[2]! })
    })
    child.once('exit', code => { reject(new Error(`the server ended with ${code}: ${output}`)) })
  })
}

t.test('the printed command works, and every other request is refused', async t => {
  const { url, authorization } = await start(t)
  const get = async (path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Response> => {
    return await fetch(url + path, { method, headers })
  }

  for (const path of ['/me', '/reports']) {
    const answer = await get(path)
    t.equal(answer.status, 401, `${path} without a token`)
    t.match(await answer.json(), { code: 'MARTY_CORE_UNAUTHENTICATED', instance: path })
  }
  const otherEnd = authorization.endsWith('AA') ? 'BB' : 'AA'
  const altered = await get('/me', { authorization: authorization.slice(0, -2) + otherEnd })
  t.equal(altered.status, 401, 'an altered token')
  t.equal(altered.headers.get('www-authenticate'), 'Bearer error="invalid_token"')
  const denied = await get('/reports', { authorization }, 'POST')
  t.equal(denied.status, 403, 'a reader does not write')
  t.match(await denied.json(), { code: 'MARTY_RBAC_DENIED' })
  t.equal((await get('/nothing')).status, 404)

  t.same(await (await get('/status')).json(), { status: 'up' })
  t.same(await (await get('/me', { authorization })).json(), { id: 'you', roles: ['reader'] })
  for (let call = 0; call < 5; call++) {
    t.same(await (await get('/reports', { authorization })).json(), ['March', 'April'])
  }
  const limited = await get('/reports', { authorization })
  t.equal(limited.status, 429)
  t.ok(Number(limited.headers.get('retry-after')) > 0)
  t.match(limited.headers.get('content-security-policy'), "default-src 'none'")
  t.equal((await get('/me', { authorization })).status, 200, 'only that route is limited')
})

t.test('a token of one start is refused by the next: each start has its own secret', async t => {
  const [first, second] = await Promise.all([start(t), start(t)])
  t.equal((await fetch(`${second.url}/me`, { headers: { authorization: first.authorization } })).status, 401)
})

t.test('the whole service is under 30 lines', async t => {
  const readme = readFileSync(fileURLToPath(new URL('../README.md', import.meta.url)), 'utf8')
  const [, program] = /```ts\n(.*?)```/s.exec(readme) ?? []
  t.ok(program !== undefined && program.trimEnd().split('\n').length < 30)
})
