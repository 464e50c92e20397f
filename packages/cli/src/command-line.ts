import { closest, MartyError } from '@marty/core'
import { parseArgs } from 'node:util'
import { EXIT, UsageError, type Command, type ExitCode, type Output, type Values } from './command.js'
import { policyCheck } from './policy-check.js'
import { policyDiff } from './policy-diff.js'
import { policyExplain } from './policy-explain.js'
import { policyMatrixCommand } from './policy-matrix.js'
import { policyTest } from './policy-test.js'
import { policyTypesCommand } from './policy-types.js'
import { keysCreate, keysList, keysPrune, keysRevoke, keysRotate, keysRotateSigning } from './keys.js'
import { auditTail, auditVerify } from './audit.js'
import { routesCommand } from './routes.js'
import { limitsReset, limitsShow, limitsTop } from './limits.js'
import { sessionsList, sessionsRevoke } from './sessions.js'
import { tokenInspect, tokenIssue } from './token.js'

const COMMANDS: readonly Command[] = [
  tokenIssue, tokenInspect,
  keysCreate, keysList, keysRotate, keysRevoke, keysPrune, keysRotateSigning,
  sessionsList, sessionsRevoke,
  limitsShow, limitsReset, limitsTop,
  auditVerify, auditTail,
  routesCommand,
  policyCheck, policyTest, policyExplain, policyDiff, policyMatrixCommand, policyTypesCommand
]

/** Runs `marty` with these arguments. Never throws. */
export async function runCommandLine (args: readonly string[], to: Output): Promise<ExitCode> {
  const output: Output = { out: text => { to.out(visible(text)) }, err: text => { to.err(visible(text)) } }
  try {
    if (args.length === 0 || args[0] === '--help' || args[0] === '-h' || args[0] === 'help') {
      (args.length === 0 ? output.err : output.out)(overview())
      return args.length === 0 ? EXIT.usage : EXIT.ok
    }
    const group = COMMANDS.filter(({ name }) => name.startsWith(`${args[0]} `))
    if (group.length > 0 && args.length === 2 && (args[1] === '--help' || args[1] === '-h')) {
      output.out(overview(group))
      return EXIT.ok
    }
    const { command, rest } = findCommand(args)
    if (rest.includes('--help') || rest.includes('-h')) {
      output.out(helpOf(command))
      return EXIT.ok
    }
    const { positionals, values } = parse(command, rest)
    return await command.run(positionals, values, output)
  } catch (error) {
    if (error instanceof UsageError) {
      output.err(`marty: ${error.message}\n`)
      return EXIT.usage
    }
    if (error instanceof MartyError) {
      output.err(`marty: ${error.message} (${error.code})\n`)
      return exitCodeOf(error)
    }
    output.err(`marty: ${error instanceof Error ? error.stack : String(error)}\n`)
    return EXIT.unexpected
  }
}

function exitCodeOf ({ code, statusCode }: MartyError): ExitCode {
  if (code.endsWith('_UNAVAILABLE')) return EXIT.unavailable
  if (statusCode === 404) return EXIT.notFound
  return statusCode === 400 || code.endsWith('_OPT_INVALID') ? EXIT.usage : EXIT.invalid
}

/**
 * Escapes characters that control a terminal or change the direction of text. Input from others, such as a
 * token or a log, may contain them. In JSON the escape means the same character.
 */
function visible (text: string): string {
  return text.replaceAll(/[^\P{C}\n]|[\p{Zl}\p{Zp}]/gu, character =>
    character.split('').map(unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`).join(''))
}

function findCommand (args: readonly string[]): { command: Command, rest: readonly string[] } {
  for (const command of COMMANDS) {
    const words = command.name.split(' ')
    if (words.every((word, index) => args[index] === word)) return { command, rest: args.slice(words.length) }
  }
  const names = COMMANDS.map(({ name }) => name)
  const given = args.slice(0, 2).filter(word => !word.startsWith('-')).join(' ')
  const near = closest(given, names)
  const inGroup = names.filter(name => name.startsWith(`${args[0] ?? ''} `))
  const known = inGroup.length > 0 ? `there are ${inGroup.join(', ')}` : 'see marty --help'
  throw new UsageError(`there is no command "${given}"; ${near === null ? known : `did you mean "marty ${near}"?`}`)
}

function parse (command: Command, args: readonly string[]): { positionals: readonly string[], values: Values } {
  const options = Object.fromEntries(
    Object.entries(command.options).map(([name, { type, multiple = false }]) => [name, { type, multiple }])
  )
  let parsed: { positionals: readonly string[], values: Values }
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true })
  } catch (error) {
    throw new UsageError(`${mistakeOf(error as Error, args, Object.keys(options))}\n${usageOf(command)}`)
  }
  const { positionals, values } = parsed
  const missing = [
    ...command.positionals.slice(positionals.length),
    ...Object.entries(command.options)
      .filter(([name, { required }]) => required === true && values[name] === undefined)
      .map(([name]) => `--${name}`)
  ]
  if (missing.length > 0) throw new UsageError(`${command.name} needs ${missing.join(', ')}\n${usageOf(command)}`)
  if (positionals.length > command.positionals.length) {
    throw new UsageError(
      `${command.name} does not know what to do with "${positionals[command.positionals.length]}"\n${usageOf(command)}`
    )
  }
  return parsed
}

function mistakeOf (
  error: Error & { readonly code?: unknown },
  args: readonly string[],
  known: readonly string[]
): string {
  if (error.code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') return error.message.split('\n')[0]!
  const unknown =
    args.find(word => word.startsWith('-') && !known.includes(word.replace(/^--/, '').split('=')[0]!)) ?? ''
  const near = closest(unknown.replace(/^-+/, '').split('=')[0]!, known)
  return `there is no option "${unknown.split('=')[0]}"` + (near === null ? '' : `; did you mean "--${near}"?`)
}

function overview (commands = COMMANDS): string {
  const width = Math.max(...commands.map(({ name }) => name.length))
  return (
    'marty COMMAND\n\n' +
    commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}\n`).join('') +
    '\nRun marty COMMAND --help for the options of a command.\n' +
    'Exit codes: 0 as it should be, 2 wrong command line or unreadable file, 3 not valid, 4 a test failed, a ' +
    'generated file drifted or a policy opens more than it may, 5 not there, 6 not reachable, 1 anything else.\n'
  )
}

function helpOf (command: Command): string {
  const width = Math.max(...Object.keys(command.options).map(name => name.length))
  return `${command.summary}\n\n${usageOf(command)}\n\n` +
    Object.entries(command.options).map(([name, { help }]) => `  --${name.padEnd(width)}  ${help}\n`).join('')
}

function usageOf (command: Command): string {
  return `usage: marty ${command.name} ${command.usage}`
}
