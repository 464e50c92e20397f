import { once } from 'node:events'
import { createConnection, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

export interface TcpProxy {
  readonly port: number
  /** How many connections have been made to it so far. */
  connections (): number
  /** From now on every piece of data arrives this much later. Milliseconds. */
  delay (ms: number): void
  /** From now on nothing arrives on the connections there are, and nobody is told: a cable that was cut. */
  blackhole (): void
}

/** Stands between a client and a server on this machine, and does to their connections what networks do. */
export async function startProxy (t: Test, target: number, port = 0): Promise<TcpProxy> {
  const links = new Set<{ dead: boolean, sockets: readonly Socket[] }>()
  let delayMs = 0
  let count = 0
  const server = createServer(client => {
    count++
    const upstream = createConnection(target, '127.0.0.1')
    const link = { dead: false, sockets: [client, upstream] }
    links.add(link)
    const carry = (from: Socket, to: Socket): void => {
      from.on('data', chunk => { setTimeout(() => { if (!link.dead) to.write(chunk) }, delayMs) })
      from.on('error', () => {})
      from.on('close', () => { if (!link.dead) to.destroy() })
    }
    carry(client, upstream)
    carry(upstream, client)
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.close()
    for (const { sockets } of links) for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    connections: () => count,
    delay (ms) { delayMs = ms },
    blackhole () { for (const link of links) link.dead = true }
  }
}
