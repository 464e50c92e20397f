import type { Rule } from '../finding.js'
import { closing } from './brackets.js'

export const evalRule: Rule = {
  name: 'eval',
  severity: 'high',
  summary: 'eval() and new Function(), which run a string as code',
  find: ({ sources }) =>
    sources
      .filter(({ language }) => language === 'javascript')
      .flatMap(({ file, code }) =>
        [
          ...code.matchAll(
            /(?<![\w$.])(?:(?:globalThis|window|global|self)\s*\.\s*)?(?:eval|(?:new\s+)?Function)\s*(?:\?\.\s*)?\(/g
          )
        ]
          .filter(({ index, 0: found }) => !isDefinition(code, index, index + found.length - 1))
          .map(({ index, 0: found }) => ({
            file,
            index,
            message: `${found.includes('eval') ? 'eval' : 'the Function constructor'} runs a string as code`,
            advice: 'Parse the string as data (JSON.parse, a schema), or choose a function from an object of functions.'
          }))
      )
}

/** Whether this `eval` is not a call, but the definition of a function or method, or its signature in a type. */
function isDefinition (code: string, start: number, open: number): boolean {
  const before = code.slice(Math.max(0, start - 200), start).trimEnd()
  if (/\bfunction\s*\*?$/.test(before)) return true
  const after = code.slice(closing(code, open) + 1).trimStart()[0]
  // After an operator, the colon belongs to a conditional expression.
  return after === '{' || (after === ':' && !/[?+\-*/%&|=(<!~^:]$/.test(before))
}
