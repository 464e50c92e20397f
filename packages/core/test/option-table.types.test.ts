import t from 'tap'
import { checkOptions, type OptionTable } from '@marty/core'

// The compiler checks this file; running it shows only that the right uses work.

interface Options { readonly port: number, readonly host?: string, readonly tls?: boolean, readonly on?: () => void }
type Checked = Required<Omit<Options, 'on'>> & { readonly on: Options['on'] | undefined }

const scope = { subject: 'demo', refuse: (message: string): Error => new Error(message) }
const port = { kind: 'integer', min: 0, about: 'Port.' } as const
const host = { kind: 'string', default: 'localhost', about: 'Host.' } as const
const tls = { kind: 'boolean', default: false, about: 'TLS.' } as const
const on = { kind: 'function', optional: true, about: 'Called.' } as const

t.test('the checked options have the types of the table', async t => {
  const table: OptionTable<Options, Checked> = { port, host, tls, on }
  const checked = checkOptions(table, { port: 1 }, scope)
  const [number, text, flag]: [number, string, boolean] = [checked.port, checked.host, checked.tls]
  t.strictSame([number, text, flag, checked.on], [1, 'localhost', false, undefined])
  // @ts-expect-error an option that has no default may be undefined
  const called: () => void = checked.on
  t.equal(called, undefined)
  // @ts-expect-error the result is read-only
  t.throws(() => { checked.port = 2 }, TypeError)
  // @ts-expect-error "port" is required
  t.throws(() => checkOptions(table, {}, scope), { message: /"port" is required/ })
})

t.test('a table that does not fit its options does not compile', async t => {
  // @ts-expect-error "on" is missing
  const missing: OptionTable<Options, Checked> = { port, host, tls }
  // @ts-expect-error "debug" is not an option
  const unknown: OptionTable<Options, Checked> = { port, host, tls, on, debug: tls }
  // @ts-expect-error the kind does not fit the type
  const kind: OptionTable<Options, Checked> = { port: host, host, tls, on }
  // @ts-expect-error a required option has no default
  const required: OptionTable<Options, Checked> = { port: { ...port, default: 80 }, host, tls, on }
  // @ts-expect-error an option that is always there after the check needs a default
  const noDefault: OptionTable<Options, Checked> = { port, host: { kind: 'string', about: 'Host.' }, tls, on }
  // @ts-expect-error the default has the wrong type
  const wrongDefault: OptionTable<Options, Checked> = { port, host: { ...host, default: 1 }, tls, on }
  // @ts-expect-error every option is described
  const undescribed: OptionTable<Options, Checked> = { port: { kind: 'integer', min: 0 }, host, tls, on }
  t.equal([missing, unknown, kind, required, noDefault, wrongDefault, undescribed].length, 7)
})
