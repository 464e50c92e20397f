import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'

/** A port that was free a moment ago. */
export async function freePort (): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}

/**
 * Different ports that were all free a moment ago. They lie below the range from which outgoing connections get
 * theirs: a port of that range could be taken by a connection before the test listens on it.
 */
export async function freePorts (count: number): Promise<number[]> {
  const held = new Map<number, Server>()
  while (held.size < count) {
    const port = randomInt(10_000, 32_000)
    const server = createServer()
    try {
      await once(server.listen(port, '127.0.0.1'), 'listening')
      held.set(port, server)
    } catch {}
  }
  await Promise.all([...held.values()].map(async server => { await once(server.close(), 'close') }))
  return [...held.keys()]
}
