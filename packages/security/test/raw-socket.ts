import { connect, type Socket } from 'node:net'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { until } from '@marty/testing'

/** A client that keeps its own side open, and everything it hears. */
export interface RawSocket {
  readonly socket: Socket
  readonly heard: () => string
  readonly isClosed: () => boolean
}

export function portOf (app: FastifyInstance): number {
  return (app.server.address() as AddressInfo).port
}

export async function openRaw (app: FastifyInstance, text: string): Promise<RawSocket> {
  const socket = connect({ port: portOf(app), host: '127.0.0.1', allowHalfOpen: true })
  let heard = ''
  let closed = false
  socket.on('error', () => {})
  socket.on('data', data => { heard += data.toString('latin1') })
  socket.once('close', () => { closed = true })
  socket.once('end', () => { socket.end() })
  await new Promise<void>(resolve => { socket.once('connect', () => { resolve() }) })
  socket.write(text, 'latin1')
  return { socket, heard: () => heard, isClosed: () => closed }
}

/** Sends bytes, and returns all that came until the server has closed the connection. */
export async function exchange (app: FastifyInstance, text: string): Promise<string> {
  const raw = await openRaw(app, text)
  await until(
    () => raw.isClosed(),
    `the server to close after ${JSON.stringify(text.slice(0, 60))}; it said ${JSON.stringify(raw.heard())}`
  )
  return raw.heard()
}

export function handshake (path: string, fields: Readonly<Record<string, string>> = {}): string {
  const all = {
    Host: 'x',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    ...fields
  }
  return `GET ${path} HTTP/1.1\r\n${Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
}

export async function openSockets (app: FastifyInstance): Promise<number> {
  return await new Promise((resolve, reject) => {
    app.server.getConnections((error, count) => { if (error === null) resolve(count); else reject(error) })
  })
}

export function statusOf (answer: string): number {
  return Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1])
}
