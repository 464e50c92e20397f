import { addressKey, ANONYMOUS, type Guard } from '@marty/core'
import type { Socket } from 'node:net'
import { CLOSE, type Connection, type RpcConnection } from './connection.js'
import { AddressConnectionsExhausted, ConnectionsExhausted } from './errors.js'
import { writeNotification } from './framing.js'
import type { ResolvedOptions } from './options.js'

/** All open connections, and the slots reserved by upgrades in progress. */
export interface Connections {
  /**
   * Reserves a slot for an upgrade, before anything in it is awaited. The returned function releases the slot.
   * Throws `MARTY_JSON_RPC_CONNECTIONS_EXHAUSTED` or `MARTY_JSON_RPC_ADDRESS_CONNECTIONS_EXHAUSTED`.
   */
  reserve (address: string | null): () => void
  add (connection: Connection): void
  all (): readonly Connection[]
  /** Sends a notification to the connections that `to` selects; returns the number of connections it was sent to. */
  notify (method: string, params: object | undefined, to: (connection: RpcConnection) => boolean): number
  /** Lets running calls finish, closes every connection with 1001, and terminates those that do not respond. */
  shutdown (): Promise<void>
}

/** It is unknown when a slot becomes free; this keeps refused clients from retrying immediately. */
const RETRY_AFTER = { 'retry-after': '5' }

/** A revoked credential receives notifications for at most this long after the guard knows of the revocation. */
const REVALIDATION_MS = 500

/** How long clients have to answer the close frame. */
const CLOSE_GRACE_MS = 1_000

export function createConnections (guard: Guard, options: ResolvedOptions): Connections {
  const open = new Set<Connection>()
  const slotsByAddress = new Map<string, number>()
  let slots = 0
  let closing = false

  const heartbeat = setInterval(() => {
    for (const connection of open) connection.ping()
  }, options.pingIntervalMs).unref()
  const revalidation = setInterval(() => {
    for (const connection of open) void downgradeIfDead(guard, connection)
  }, REVALIDATION_MS).unref()

  return {
    reserve (address) {
      if (closing || slots >= options.maxConnections) throw new ConnectionsExhausted({ headers: RETRY_AFTER })
      const key = address === null ? null : addressKey(address)
      const taken = key === null ? 0 : slotsByAddress.get(key) ?? 0
      if (taken >= options.maxConnectionsPerAddress) throw new AddressConnectionsExhausted({ headers: RETRY_AFTER })
      slots++
      if (key !== null) slotsByAddress.set(key, taken + 1)
      let held = true
      return () => {
        if (!held) return
        held = false
        slots--
        if (key === null) return
        const left = slotsByAddress.get(key)! - 1
        if (left === 0) slotsByAddress.delete(key)
        else slotsByAddress.set(key, left)
      }
    },

    add (connection) {
      open.add(connection)
      connection.signal.addEventListener('abort', () => { open.delete(connection) }, { once: true })
      if (closing) void closeAll([connection])
    },

    all: () => [...open],

    notify (method, params, to) {
      const text = writeNotification(method, params)
      let sent = 0
      for (const connection of open) {
        if (to(connection) && connection.send(text)) sent++
      }
      return sent
    },

    async shutdown () {
      closing = true
      clearInterval(heartbeat)
      clearInterval(revalidation)
      await before(
        Promise.all(
          [...open].map(async connection => {
            await connection.drain()
          })
        ),
        options.shutdownGraceMs
      )
      await closeAll([...open])
    }
  }

  async function closeAll (connections: readonly Connection[]): Promise<void> {
    for (const connection of connections) connection.close(CLOSE.goingAway, 'the service is closing')
    await before(Promise.all(connections.map(async ({ signal }) => {
      if (!signal.aborted) {
        await new Promise<void>(resolve => {
          signal.addEventListener(
            'abort',
            () => {
              resolve()
            },
            { once: true }
          )
        })
      }
    })), CLOSE_GRACE_MS)
    for (const connection of connections) connection.terminate()
  }
}

/** Releases the slot when the raw socket is closed, however the upgrade ended. */
export function releaseWithSocket (socket: Socket | undefined, release: () => void): void {
  if (socket === undefined) return
  if (socket.destroyed) release()
  else socket.once('close', release)
}

/**
 * Makes a connection anonymous when its credential has been revoked. Notifications run no check, so the revocation must
 * take effect before the next call. If the validity cannot be determined, the next call decides.
 */
async function downgradeIfDead (guard: Guard, connection: Connection): Promise<void> {
  const { credential } = connection
  if (credential === ANONYMOUS) return
  try {
    if (!await guard.isAlive(credential, true)) connection.updateCredential(credential, ANONYMOUS)
  } catch (error) {
    connection.log.warn({ err: error }, 'could not check whether the credential of a connection is still valid')
  }
}

async function before (work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  await Promise.race([work, new Promise<void>(resolve => { timer = setTimeout(resolve, ms) })])
  clearTimeout(timer)
}
