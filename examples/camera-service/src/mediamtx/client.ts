import { redactUrls } from '../process/redact-urls.js'
import { MediaMtxRejected, MediaMtxUnavailable } from './errors.js'

/** The response of `/v3/info`. A changed `started` means that MediaMTX has restarted and lost every path. */
export interface MediaMtxInfo { readonly version: string, readonly started: string }

/** Path configuration. Only the fields that this service owns are written or compared. */
export type PathConf = Readonly<Record<string, string | number | boolean>>

/** The current state of a path. */
export interface RuntimePath {
  readonly name: string
  /** Whether video arrives. `online` would be true for every pulled source, even an unreachable one. */
  readonly available: boolean
  readonly availableTime: string | null
  readonly source: { readonly type: string, readonly id: string } | null
  readonly tracks2: ReadonlyArray<{
    readonly codec: string
    readonly codecProps?: { readonly width?: number, readonly height?: number } | null
  }>
  readonly readers: ReadonlyArray<{ readonly type: string, readonly id: string }>
  readonly inboundBytes: number
  readonly outboundBytes: number
}

export interface MediaMtxClient {
  info (): Promise<MediaMtxInfo>
  listConfiguredPaths (): Promise<ReadonlyArray<{ readonly name: string } & PathConf>>
  listPaths (): Promise<readonly RuntimePath[]>
  replacePath (name: string, conf: PathConf): Promise<void>
  patchPath (name: string, conf: PathConf): Promise<void>
  /** Also succeeds if the path does not exist. */
  deletePath (name: string): Promise<void>
  /** Ends a session. `kind` is its list in the API, such as `rtspsessions`. False when the session does not exist. */
  kick (kind: string, id: string): Promise<boolean>
}

export interface ClientOptions {
  /** Base URL of the Control API, such as `http://127.0.0.1:9997`. */
  readonly baseUrl: string
  /** Bearer token of the controller. */
  readonly secret: string
  /** Timeout of one call, in milliseconds. @default 3000 */
  readonly timeoutMs?: number
}

const PAGE_SIZE = 100

/**
 * A client for the part of MediaMTX's Control API (v3) that we use. Throws `MARTY_CAMERA_MEDIAMTX_UNAVAILABLE` or
 * `..._REJECTED`.
 */
export function createMediaMtxClient ({ baseUrl, secret, timeoutMs = 3000 }: ClientOptions): MediaMtxClient {
  async function call (method: string, path: string, body?: unknown): Promise<{ status: number, json: unknown }> {
    let response: Response
    let text: string
    try {
      response = await fetch(`${baseUrl}/v3${path}`, {
        method,
        signal: AbortSignal.timeout(timeoutMs),
        headers: {
          authorization: `Bearer ${secret}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' })
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      text = await response.text()
    } catch (error) {
      throw new MediaMtxUnavailable({ cause: error })
    }
    const json = parse(text)
    if (response.ok) return { status: response.status, json }
    const reason =
      typeof (json as { error?: unknown } | null)?.error === 'string'
        ? (json as { error: string }).error
        : `status ${response.status}`
    if (response.status >= 500) {
      throw new MediaMtxUnavailable({ cause: new Error(redactUrls(`${method} ${path}: ${reason}`)) })
    }
    if (response.status === 404 && method === 'DELETE') return { status: 404, json }
    throw new MediaMtxRejected({
      cause: new Error(redactUrls(`${method} ${path}: ${reason}`)),
      data: { status: response.status }
    })
  }

  async function all<T> (path: string): Promise<T[]> {
    const items: T[] = []
    for (let page = 0, pages = 1; page < pages; page++) {
      const { json } = await call('GET', `${path}?itemsPerPage=${PAGE_SIZE}&page=${page}`)
      const list = json as { pageCount?: number, items?: T[] } | null
      if (!Array.isArray(list?.items)) {
        throw new MediaMtxUnavailable({ cause: new Error(`GET ${path}: no items in the answer`) })
      }
      items.push(...list.items)
      pages = list.pageCount ?? 1
    }
    return items
  }

  return {
    async info () {
      const { version, started } = (await call('GET', '/info')).json as MediaMtxInfo
      return { version: version.trim(), started }
    },
    listConfiguredPaths: () => all('/config/paths/list'),
    listPaths: () => all('/paths/list'),
    async replacePath (name, conf) { await call('POST', `/config/paths/replace/${encodePath(name)}`, conf) },
    async patchPath (name, conf) { await call('PATCH', `/config/paths/patch/${encodePath(name)}`, conf) },
    async deletePath (name) { await call('DELETE', `/config/paths/delete/${encodePath(name)}`) },
    async kick (kind, id) {
      try {
        await call('POST', `/${kind}/kick/${encodeURIComponent(id)}`)
        return true
      } catch (error) {
        if (error instanceof MediaMtxRejected && error.data['status'] === 404) return false
        throw error
      }
    }
  }
}

function encodePath (name: string): string {
  return name.split('/').map(encodeURIComponent).join('/')
}

function parse (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
