import { createHmac, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createConnection } from 'node:net'
import { crc32 } from 'node:zlib'

/** How the header that identifies the caller is created for each request. */
export type Credential =
  | { readonly kind: 'none' }
  | { readonly kind: 'same', readonly token: string }
  /** A different JWT for every request: the same claims with a new `jti`. */
  | { readonly kind: 'jwt', readonly secret: string, readonly header: object, readonly claims: object }
  /** No credential: the header `x-user` names the users in turn. */
  | { readonly kind: 'users', readonly count: number }
  /** A well-formed API key with a valid checksum, but with a secret that was never issued. */
  | { readonly kind: 'wrong key', readonly start: string }

export interface LoadJob {
  readonly port: number
  readonly credential: Credential
  /** The local address to connect from. @default the system chooses */
  readonly from?: string
  readonly requests: number
  /** Requests to start per second, however long responses take. @default as many as `connections` allow */
  readonly perSecond?: number
  /** Keep-alive connections with one request at a time; with `perSecond`, the maximum number of them. */
  readonly connections: number
  /** Whether to record the duration of each request. Always done with `perSecond`. @default false */
  readonly timed?: boolean
}

export interface LoadResult {
  /** Number of responses by status. A request for which no connection was free counts as status 0. */
  readonly statuses: Readonly<Record<number, number>>
  /** Time from a request to the end of its response, in milliseconds; only with `timed` or `perSecond`. */
  readonly latenciesMs: readonly number[]
}

/** Headers that were prepared for the next job. */
let ready: string[] = []

/** Opens the connections of a job and creates its headers, so that neither is part of the measurement. */
export async function prepareLoad ({ port, credential, from, requests, connections }: LoadJob): Promise<void> {
  await connectionsTo(port, from, connections)
  ready = Array.from({ length: requests }, headerOf(credential))
}

/** Runs one job over real sockets. Call it in a separate process, so that the server has a core for itself. */
export async function runLoad ({
  port,
  credential,
  from,
  requests,
  perSecond,
  connections,
  timed = false
}: LoadJob): Promise<LoadResult> {
  const make = headerOf(credential)
  const header = (): string => ready.pop() ?? make()
  const statuses: Record<number, number> = {}
  const latenciesMs: number[] = []
  const count = (status: number): void => {
    statuses[status] = (statuses[status] ?? 0) + 1
  }
  const idle = await connectionsTo(port, from, connections)

  if (perSecond === undefined) {
    let left = requests
    await Promise.all(
      idle.map(async send => {
        while (left-- > 0) {
          const begun = timed ? performance.now() : 0
          count(await send(header()))
          if (timed) latenciesMs.push(performance.now() - begun)
        }
      })
    )
    return { statuses, latenciesMs }
  }

  const running: Array<Promise<void>> = []
  const started = performance.now()
  for (let sent = 0; sent < requests;) {
    const due = Math.min(requests, Math.floor(((performance.now() - started) / 1000) * perSecond) + 1)
    for (; sent < due; sent++) {
      const send = idle.pop()
      if (send === undefined) {
        count(0)
        continue
      }
      const begun = performance.now()
      running.push(
        send(header()).then(status => {
          latenciesMs.push(performance.now() - begun)
          count(status)
          idle.push(send)
        })
      )
    }
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  await Promise.all(running)
  return { statuses, latenciesMs }
}

/** Continues from job to job, so that all users make equally many requests. */
let turn = 0

function headerOf (credential: Credential): () => string {
  const bearer = (token: string): string => `Authorization: Bearer ${token}\r\n`
  switch (credential.kind) {
    case 'none': return () => ''
    case 'same': {
      const header = bearer(credential.token)
      return () => header
    }
    case 'jwt': {
      const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
      const secret = Buffer.from(credential.secret, 'base64url')
      const first = encode(credential.header)
      return () => {
        const input = `${first}.${encode({ ...credential.claims, jti: randomBytes(16).toString('base64url') })}`
        return bearer(`${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`)
      }
    }
    case 'users': return () => `x-user: user-${turn++ % credential.count}\r\n`
    case 'wrong key': return () => {
      const body = credential.start + randomBytes(43).toString('hex').slice(0, 43)
      return bearer(`${body}_${checksum(body)}`)
    }
  }
}

/** The last six characters of an API key: CRC-32 in base 62. */
export function checksum (body: string): string {
  const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
  let text = ''
  for (let rest = crc32(body); text.length < 6; rest = Math.floor(rest / 62)) text = alphabet[rest % 62]! + text
  return text
}

/** Resolves with the status when the response is complete. */
type Send = (header: string) => Promise<number>

/** Connections stay open from one job to the next, because connecting is not measured. */
const pools = new Map<string, Set<Send>>()

async function connectionsTo (port: number, from: string | undefined, many: number): Promise<Send[]> {
  const key = `${port} ${from}`
  const pool = pools.get(key) ?? new Set()
  pools.set(key, pool)
  await Promise.all(Array.from({ length: Math.max(0, many - pool.size) }, () => connect(port, from, pool)))
  return [...pool].slice(0, many)
}

async function connect (port: number, from: string | undefined, pool: Set<Send>): Promise<void> {
  const socket = createConnection({
    port,
    host: '127.0.0.1',
    noDelay: true,
    ...(from === undefined ? {} : { localAddress: from })
  })
  await once(socket, 'connect')
  let answer: { resolve: (status: number) => void, reject: (error: Error) => void } | null = null
  let received = ''
  socket.on('data', chunk => {
    received += chunk.toString('latin1')
    const end = received.indexOf('\r\n\r\n')
    if (end === -1) return
    const length = /\r\ncontent-length: (\d+)/i.exec(received)
    if (length === null) return answer?.reject(new Error('an answer without Content-Length'))
    if (received.length < end + 4 + Number(length[1])) return
    const status = Number(received.slice(9, 12))
    received = ''
    answer?.resolve(status)
  })
  socket.on('error', error => answer?.reject(error))
  const send: Send = async header => await new Promise((resolve, reject) => {
    answer = { resolve, reject }
    socket.write(`GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n${header}\r\n`)
  })
  socket.on('close', () => {
    pool.delete(send)
    answer?.reject(new Error('the server closed a keep-alive connection'))
  })
  pool.add(send)
}
