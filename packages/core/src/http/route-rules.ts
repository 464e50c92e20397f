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

  /** Throws `MARTY_CORE_RULE_INVALID` for a URL that could match more than was meant. */
  add (rules: readonly RouteRule[]): void {
    const added = rules.map(({ url, methods, headers, ...rule }, index): Entry => {
      const where = `rules[${index}] (${url})`
      verifyUrl(where, url)
      return {
        where,
        url,
        under: url.endsWith('/*') ? url.slice(0, -2) : null,
        methods: methods?.map(method => method.toUpperCase()) ?? null,
        rule,
        headers,
        isUsed: false
      }
    })
    this.#entries = [...this.#entries, ...added].sort((a, b) =>
      Number(a.under !== null) - Number(b.under !== null) || b.url.length - a.url.length)
  }

  /** The entry for a route that declares no rule; it must be for all methods of the route. */
  find (methods: readonly string[], url: string): Pick<Entry, 'rule' | 'headers'> | undefined {
    this.#urls.add(url)
    const entry = this.#entries.find(({ url: own, under, methods: allowed }) => {
      const matches = under === null ? url === own : url === under || url.startsWith(`${under}/`)
      return matches && (allowed === null || methods.every(method => allowed.includes(method)))
    })
    if (entry !== undefined) entry.isUsed = true
    return entry
  }

  /** One sentence for each entry that no route has used: it is misspelt, or the route has a rule of its own. */
  unused (): string[] {
    return this.#entries.filter(({ isUsed }) => !isUsed).map(({ where, url }) =>
      `${where} matches no route without a rule of its own${didYouMean(url.replace(/\/\*$/, ''), this.#urls)}`)
  }
}

function verifyUrl (where: string, url: unknown): void {
  if (typeof url === 'string' && /^\/[^*]+$|^\/$|^(?:\/[^/*]+)+\/\*$/.test(url)) return
  throw new RuleInvalid(
    `${where}: url must be the URL of one route, such as "/health", or all routes under a path, such as "/docs/*"; ` +
      'a rule for every route of the application is not possible'
  )
}
