import type { Place, Rule, SourceFile } from '../finding.js'
import { closing, enclosingBrace } from './brackets.js'

export const corsCredentials: Rule = {
  name: 'cors-credentials',
  severity: 'high',
  summary: 'any origin allowed together with credentials',
  find: ({ sources }) =>
    sources
      .filter(({ language }) => language === 'javascript')
      .flatMap(source => [...inOptions(source), ...inHeaders(source)])
}

const FOUND: Pick<Place, 'message' | 'advice'> = {
  message: 'every web site may call this with the credentials of its visitors',
  advice: 'List the allowed origins, or turn credentials off.'
}

/** Finds `{ origin: '*', credentials: true }`, and `origin: true`, which allows every origin that asks. */
function inOptions ({ file, code, uncommented }: SourceFile): Place[] {
  return [...code.matchAll(/\bcredentials['"]?\s*:\s*true\b/g)].flatMap(({ index }) => {
    const open = enclosingBrace(code, index)
    if (open === -1) return []
    const close = closing(code, open)
    for (const { index: at } of uncommented
      .slice(open, close)
      .matchAll(/\borigin['"]?\s*:\s*(?:\[\s*)?(?:['"]\*['"]|true\b)/g)) {
      if (code.startsWith('origin', open + at) && enclosingBrace(code, open + at) === open) {
        return [{ file, index: open + at, ...FOUND }]
      }
    }
    return []
  })
}

function inHeaders ({ file, code, uncommented }: SourceFile): Place[] {
  // A quote that was replaced in `code` is inside a longer string.
  const find = (pattern: RegExp): number | undefined =>
    [...uncommented.matchAll(pattern)].find(({ index }) => code[index] !== ' ')?.index
  const origin = find(/['"]access-control-allow-origin['"]\s*[,:\]=]+\s*['"]\*['"]/gi)
  const credentials = find(/['"]access-control-allow-credentials['"]\s*[,:\]=]+\s*['"]?true\b/gi)
  return origin === undefined || credentials === undefined ? [] : [{ file, index: origin, ...FOUND }]
}
