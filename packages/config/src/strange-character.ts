/** Describes a misleading character, for example `U+0430, a letter of the Cyrillic script, which looks like "a"`. */
export function nameCharacter (character: string): string {
  const point = `U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}`
  const kind = KINDS.find(([pattern]) => pattern.test(character))?.[1]
  const twin =
    LOOKALIKES[character] ??
    (/^[\x21-\x7E]$/.test(character.normalize('NFKC')) ? character.normalize('NFKC') : undefined)
  return point + (kind === undefined ? '' : `, ${kind}`) + (twin === undefined ? '' : `, which looks like "${twin}"`)
}

/** A hint such as `; it contains U+200B, an invisible character`, for characters that are unusual in a name. */
export function strangeCharacterHint (text: string): string {
  const found = /[^\x20-\x7E]/u.exec(text)
  return found === null
    ? ''
    : `; it contains ${nameCharacter(found[0])}, as character ${[...text.slice(0, found.index)].length + 1}`
}

const KINDS: ReadonlyArray<readonly [RegExp, string]> = [
  [/\p{Cc}/u, 'a control character'],
  [/[\p{Cf}\p{Zl}\p{Zp}\u115F\u1160\u3164\uFFA0\p{Mn}]/u, 'an invisible character'],
  [/\p{Zs}/u, 'a space that is not U+0020'],
  [/[\uFF01-\uFF5E]/u, 'a full-width character'],
  [/\p{Script=Cyrillic}/u, 'a letter of the Cyrillic script'],
  [/\p{Script=Greek}/u, 'a letter of the Greek script'],
  [/\p{Script=Armenian}/u, 'a letter of the Armenian script']
]

/** Letters of other scripts that are most often confused with Latin letters (Unicode Technical Standard 39). */
const LOOKALIKES: Readonly<Record<string, string>> = Object.freeze({
  а: 'a',
  с: 'c',
  ԁ: 'd',
  е: 'e',
  һ: 'h',
  і: 'i',
  ј: 'j',
  ӏ: 'l',
  о: 'o',
  р: 'p',
  ԛ: 'q',
  ѕ: 's',
  ԝ: 'w',
  х: 'x',
  у: 'y',
  в: 'b',
  к: 'k',
  м: 'm',
  н: 'n',
  т: 't',
  α: 'a',
  ο: 'o',
  ρ: 'p',
  ν: 'v',
  υ: 'u',
  ι: 'i',
  κ: 'k',
  χ: 'x',
  ɡ: 'g',
  ı: 'i',
  օ: 'o',
  ո: 'n',
  ս: 'u',
  հ: 'h',
  '–': '-',
  '—': '-',
  '−': '-',
  '‐': '-',
  '‑': '-',
  '‘': "'",
  '’': "'",
  '“': '"',
  '”': '"',
  '：': ':',
  '∗': '*',
  '＊': '*',
  '‚': ','
})
