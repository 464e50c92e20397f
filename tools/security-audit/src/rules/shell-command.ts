import type { Place, Rule, SourceFile } from '../finding.js'
import { endOfFirstArgument } from './brackets.js'

export const shellCommand: Rule = {
  name: 'shell-command',
  severity: 'high',
  summary: 'child_process.exec() with a command put together from parts',
  find: ({ sources }) =>
    sources
      .filter(({ language, uncommented }) => language === 'javascript' && MODULE.test(uncommented))
      .flatMap(findCalls)
}

const MODULE = /['"](?:node:)?child_process['"]/

function findCalls (source: SourceFile): Place[] {
  const { file, code, uncommented } = source
  const { functions, namespaces } = namesOf(uncommented)
  const callees = [
    ...functions.map(name => `(?<![\\w$.])${escape(name)}`),
    ...namespaces.map(name => `(?<![\\w$.])${escape(name)}\\s*\\.\\s*exec(?:Sync)?`),
    // require('child_process').exec(...). The name of the module is a string, so it was replaced in `code`.
    '(?<![\\w$.])require\\s*\\(["\'] +["\']\\)\\s*\\.\\s*exec(?:Sync)?'
  ]
  return [...code.matchAll(new RegExp(`(?:${callees.join('|')})\\s*\\(`, 'g'))].flatMap(({ index, 0: found }) => {
    if (/\bfunction\s+$/.test(code.slice(Math.max(0, index - 12), index))) return []
    if (found.startsWith('require') && !MODULE.test(uncommented.slice(index, index + found.length))) return []
    const open = index + found.length - 1
    const argument = code.slice(open + 1, endOfFirstArgument(code, open))
    if (!isPutTogether(argument)) return []
    return [
      {
        file,
        index,
        message: 'a shell command is put together from parts: a value with ";" or "$(" in it runs as a command',
        advice: 'Use execFile or spawn with an array of arguments, without a shell.'
      }
    ]
  })
}

/** Whether the argument is a template with an expression, or a `+` joins more than literals. */
function isPutTogether (argument: string): boolean {
  if (/`[^`]*\$\{/.test(argument)) return true
  return argument.includes('+') && /[\w$]/.test(argument.replace(/(['"`])\s*\1/g, ''))
}

/** The names under which a file imports `exec`, `execSync` and the module itself. */
function namesOf (text: string): { functions: readonly string[], namespaces: readonly string[] } {
  const functions = new Set<string>()
  const namespaces = new Set<string>()
  const from = '(?:from\\s*|=\\s*(?:await\\s+)?(?:require|import)\\s*\\(\\s*)[\'"](?:node:)?child_process[\'"]'
  for (const [, list = ''] of text.matchAll(new RegExp(`\\{([^{}]*)\\}\\s*${from}`, 'g'))) {
    for (const item of list.split(',')) {
      const [, name, local = name] = /^\s*(exec|execSync)(?:\s*(?:as\s|:)\s*([\w$]+))?\s*$/.exec(item) ?? []
      if (local !== undefined) functions.add(local)
    }
  }
  for (const [, name = ''] of text.matchAll(
    new RegExp(`(?:\\*\\s*as\\s+|\\b(?:import|const|let|var)\\s+)([\\w$]+)(?:\\s*,\\s*\\{[^{}]*\\})?\\s*${from}`, 'g')
  )) {
    namespaces.add(name)
  }
  for (const [, name = '', target = ''] of text.matchAll(
    /\b(?:const|let|var)\s+([\w$]+)\s*=\s*(?:[\w$]+\.)?promisify\s*\(\s*([\w$.]+)\s*\)/g
  )) {
    const [object = '', method = ''] = target.split('.')
    if (functions.has(target) || (namespaces.has(object) && method === 'exec')) functions.add(name)
  }
  return { functions: [...functions], namespaces: [...namespaces] }
}

function escape (name: string): string {
  return name.replace(/\$/g, '\\$')
}
