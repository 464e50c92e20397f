import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * Below the range from which outgoing connections get their ports: a port of that range could be taken by a connection
 * before the test listens on it.
 */
const FIRST = 10_000
const LAST = 31_999
const BLOCK = 20

/** Ports of the reserved blocks that were not handed out yet. */
const reserved: number[] = []

/** A port that is free, and that no other test process is given. */
export async function freePort (): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}

/**
 * Different ports that are free. Test files run at the same time, and a service may listen long after its test asked
 * for a port. So each process takes whole blocks: it listens on the first port of a block as long as it runs, and no
 * other process can take that block. A port is handed out once.
 */
export async function freePorts (count: number): Promise<number[]> {
  const ports: number[] = []
  while (ports.length < count) {
    const port = reserved.pop()
    if (port === undefined) await reserveBlock()
    else if (await isFree(port)) ports.push(port)
  }
  return ports
}

async function reserveBlock (): Promise<void> {
  for (;;) {
    const first = FIRST + BLOCK * randomInt(Math.floor((LAST - FIRST) / BLOCK))
    const server = createServer()
    try {
      await once(server.listen(first, '127.0.0.1'), 'listening')
    } catch {
      continue
    }
    server.unref()
    for (let port = first + BLOCK - 1; port > first; port--) reserved.push(port)
    return
  }
}

async function isFree (port: number): Promise<boolean> {
  const server = createServer()
  try {
    // On every interface, as most servers listen.
    await once(server.listen(port), 'listening')
  } catch {
    return false
  }
  server.close()
  await once(server, 'close')
  return true
}
