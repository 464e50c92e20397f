import { didYouMean } from '../did-you-mean.js'
import { RuleInvalid } from '../errors.js'
import type { SecurityRule } from '../rule.js'

/** A rule for routes that declare none, such as those that a third-party plugin registers. */
export type RouteRule = SecurityRule & {
  /** The URL of one route as it is declared, or all routes under a path: `/docs/*` matches `/docs` and `/docs/json`. */
  readonly url: string
  /** @default every method */
  readonly methods?: readonly string[]
  /** `config.headers` of these routes, for `@marty/headers`. */
  readonly headers?: object
}

interface Entry {
  readonly where: string
  readonly url: string
  /** The path that `*` stands under; null for one route. */
  readonly under: string | null
  readonly methods: readonly string[] | null
  readonly rule: SecurityRule
  readonly headers: object | undefined
  isUsed: boolean
}

/** The rules that an application declares for routes without one. The one with the longest URL applies. */
export class RouteRules {
  #entries: Entry[] = []
  readonly #urls = new Set<string>()

  /**
   * Throws `MARTY_CORE_RULE_INVALID` for a URL that could match more than was meant, and for one that matches a route
   * registered before: `open` has the URLs of those without a rule.
   */
  add (rules: readonly RouteRule[], open: readonly string[]): void {
    const added = rules.map(({ url, methods, headers, ...rule }, index): Entry => {
      const where = `rules[${index}] (${url})`
      verifyUrl(where, url)
      return {
        where,
        url,
        under: url.endsWith('/*') ? url.slice(0, -2) : null,
        methods: methods === undefined ? null : withHead(methods.map(method => method.toUpperCase())),
        rule,
        headers,
        isUsed: false
      }
    })
    for (const entry of added) {
      const early = [...open, ...this.#urls].find(url => matches(entry, url))
      if (early === undefined) continue
      throw new RuleInvalid(`${entry.where}: the route ${early} was registered before this rule; declare rules first`)
    }
    this.#entries = [...this.#entries, ...added].sort((a, b) =>
      Number(a.under !== null) - Number(b.under !== null) || b.url.length - a.url.length)
  }

  /**
   * The entry for a route that declares no rule. An entry for only some methods of the route counts as none: the next
   * one may be wider than what was meant for those methods.
   */
  find (methods: readonly string[], url: string): Pick<Entry, 'rule' | 'headers'> | undefined {
    this.#urls.add(url)
    const entry = this.#entries.find(entry =>
      matches(entry, url) && (entry.methods === null || methods.some(method => entry.methods!.includes(method))))
    if (entry === undefined) return undefined
    if (entry.methods !== null && !methods.every(method => entry.methods!.includes(method))) return undefined
    entry.isUsed = true
    return entry
  }

  /** One sentence for each entry that no route has used: it is misspelt, or the route has a rule of its own. */
  unused (): string[] {
    return this.#entries.filter(({ isUsed }) => !isUsed).map(({ where, url }) =>
      `${where} matches no route without a rule of its own${didYouMean(url.replace(/\/\*$/, ''), this.#urls)}`)
  }
}

function matches ({ url: own, under }: Entry, url: string): boolean {
  return under === null ? url === own : url === under || url.startsWith(`${under}/`)
}

/** Fastify adds a HEAD route to each GET route. */
function withHead (methods: readonly string[]): readonly string[] {
  return methods.includes('GET') ? [...methods, 'HEAD'] : methods
}

function verifyUrl (where: string, url: unknown): void {
  if (typeof url === 'string' && /^\/[^*]+$|^\/$|^(?:\/[^/*]+)+\/\*$/.test(url)) return
  throw new RuleInvalid(
    `${where}: url must be the URL of one route, such as "/health", or all routes under a path, such as "/docs/*"; ` +
      'a rule for every route of the application is not possible'
  )
}
