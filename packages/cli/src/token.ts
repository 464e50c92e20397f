import type { TokenOptions } from '@marty/auth'
import { text as readAll } from 'node:stream/consumers'
import { EXIT, UsageError, type Command, type Values } from './command.js'
import { flag, json, secretFile, seconds, text, texts } from './values.js'

const KEYS = {
  issuer: { type: 'string', help: 'The issuer, as in the options of the service' },
  audience: { type: 'string', help: 'The audience, as in the options of the service' },
  'signing-keys': { type: 'string', help: 'Key file made by "marty keys rotate-signing"' },
  'secret-file': { type: 'string', help: 'File with the HS256 secret, instead of a key file' },
  kid: { type: 'string', help: 'Key id (kid) of that secret' }
} as const

async function tokenOptions (values: Values): Promise<TokenOptions> {
  for (const name of ['issuer', 'audience']) {
    if (values[name] === undefined) throw new UsageError(`--${name} is missing`)
  }
  const common = {
    issuer: text(values, 'issuer')!,
    audience: text(values, 'audience')!,
    maxLifetimeSeconds: 365 * 86_400
  }
  const file = text(values, 'signing-keys')
  if (file !== undefined) {
    const { openSigningKeys } = await import('@marty/auth')
    return { ...common, keys: openSigningKeys(file) }
  }
  const kid = text(values, 'kid')
  if (values['secret-file'] === undefined || kid === undefined) {
    throw new UsageError('say with which key: --signing-keys FILE, or --secret-file FILE and --kid NAME')
  }
  return { ...common, keys: { signing: { kid, algorithm: 'HS256', secret: await secretFile(values, 'secret-file') } } }
}

export const tokenIssue: Command = {
  name: 'token issue',
  usage:
    '--issuer I --audience A --subject S [--role R]... [--ttl TIME] (--signing-keys FILE | --secret-file FILE --kid NAME)',
  summary: 'Prints a signed access token, and nothing else',
  options: {
    ...KEYS,
    subject: { type: 'string', help: 'The caller that the token identifies', required: true },
    role: { type: 'string', multiple: true, help: 'A role; can be repeated' },
    scope: { type: 'string', multiple: true, help: 'A scope; can be repeated' },
    ttl: { type: 'string', help: 'How long it is valid: 90s, 15m, 8h, 1d (default: 15m)' },
    service: { type: 'boolean', help: 'The subject is a service, not a person' },
    json: { type: 'boolean', help: 'Write token, jti and expires_at as JSON' }
  },
  positionals: [],
  async run (_, values, output) {
    const options = await tokenOptions(values)
    const { createTokenIssuer } = await import('@marty/auth')
    const issuer = createTokenIssuer(options)
    const ttlSeconds = seconds(values, 'ttl')
    const { token, jti, expiresAt } = issuer.issue({
      subject: text(values, 'subject')!,
      roles: texts(values, 'role'),
      scopes: texts(values, 'scope'),
      kind: flag(values, 'service') ? 'service' : 'user',
      ...(ttlSeconds === undefined ? {} : { ttlSeconds })
    })
    output.out(
      flag(values, 'json') ? json({ token, jti, expires_at: new Date(expiresAt).toISOString() }) : `${token}\n`
    )
    return EXIT.ok
  }
}

export const tokenInspect: Command = {
  name: 'token inspect',
  usage: 'TOKEN|- [--issuer I --audience A (--signing-keys FILE | --secret-file FILE --kid NAME)] [--json]',
  summary: 'Shows the content of a token and, given its key, whether it is valid; "-" reads standard input',
  options: { ...KEYS, json: { type: 'boolean', help: 'Write the result as JSON' } },
  positionals: ['TOKEN'],
  async run ([given = ''], values, output) {
    const token = given === '-' ? (await readAll(process.stdin)).trim() : given
    const [header, claims] = token.split('.', 2).map(decode)
    const checks = ['issuer', 'audience', 'signing-keys', 'secret-file'].some(name => values[name] !== undefined)
    const problem = checks ? await whatIsWrong(token, await tokenOptions(values)) : null
    const decodable = header !== null && header !== undefined && claims !== null && claims !== undefined
    const checked = checks ? (problem ?? 'good') : 'not checked: give the key to know whether it is good'
    const verdict = decodable ? checked : 'not a token'
    if (flag(values, 'json')) {
      output.out(
        json({
          valid: checks ? decodable && problem === null : null,
          problem: decodable ? problem : 'not a token',
          header: header ?? null,
          claims: claims ?? null
        })
      )
    } else {
      for (const [name, part] of [
        ['header', header],
        ['claims', claims]
      ] as const) {
        if (part != null) output.out(`${name} ${json(part)}`)
      }
      for (const name of ['iat', 'nbf', 'exp']) {
        const time = claims?.[name]
        if (typeof time === 'number' && Math.abs(time) < 8e12) {
          output.out(`${name} is ${new Date(time * 1000).toISOString()}\n`)
        }
      }
      output.out(`${verdict}\n`)
    }
    return decodable && problem === null ? EXIT.ok : EXIT.invalid
  }
}

async function whatIsWrong (token: string, options: TokenOptions): Promise<string | null> {
  const { createTokenVerifier } = await import('@marty/auth')
  const verify = createTokenVerifier(options)
  try {
    verify(token)
    return null
  } catch (error) {
    // The holder of the key may see the cause, which is hidden from clients.
    return String((error as Error).cause ?? (error as Error).message)
  }
}

function decode (segment: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(segment, 'base64url').toString())
    return typeof value === 'object' && !Array.isArray(value) ? value as Record<string, unknown> | null : null
  } catch {
    return null
  }
}
