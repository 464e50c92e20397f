import type { Path } from '@marty/config'
import { compileCondition, type Condition } from '../conditions/evaluate.js'
import { parseCondition, type ConditionMistake, type Expression } from '../conditions/syntax.js'
import { conditionMistakes, type AttributeType } from '../conditions/types.js'
import type { ResourceDefinition } from '../model/definition.js'
import { parsePermission } from '../model/permission.js'

/** Reports a mistake at a character offset of the string at a path. */
export type ReportInText = (path: Path, text: string, offset: number, message: string) => void

interface Names {
  readonly roles: readonly string[]
  readonly aliases: ReadonlyMap<string, string>
  readonly resources: ReadonlyMap<string, ResourceDefinition>
}

/** Collects the conditions of a policy. Each is parsed once, and identified by its number. */
export class ConditionReader {
  readonly conditions: Condition[] = []
  readonly #numbers = new Map<string, number>()
  readonly #checked = new Map<string, Expression | null>()
  readonly #names: Names
  readonly #report: ReportInText

  constructor (names: Names, report: ReportInText) {
    this.#names = names
    this.#report = report
  }

  /**
   * Returns the number of a condition, or of its opposite; null if there is no condition or it has a
   * mistake, which is reported. The patterns determine which resource attributes it may read.
   */
  read (text: string | undefined, patterns: readonly string[], path: Path, negated = false): number | null {
    if (text === undefined) return null
    const expression = this.#check(text, patterns, path)
    if (expression === null) return null
    const meant = negated ? `not (${text})` : text
    let number = this.#numbers.get(meant)
    if (number === undefined) {
      number =
        this.conditions.push(
          compileCondition(meant, negated ? { kind: 'not', operand: expression } : expression, this.#names.aliases)
        ) - 1
      this.#numbers.set(meant, number)
    }
    return number
  }

  #check (text: string, patterns: readonly string[], path: Path): Expression | null {
    const { roles, aliases, resources } = this.#names
    const names = new Set(patterns.map(pattern => parsePermission(pattern)!.resource))
    const key = `${[...names].join(' ')}\n${text}`
    const known = this.#checked.get(key)
    if (known !== undefined && known !== null) return known
    let expression: Expression | null = null
    let mistakes: readonly ConditionMistake[]
    try {
      expression = parseCondition(text)
      mistakes = conditionMistakes(expression, {
        roles,
        environments: [...aliases.keys()],
        resource: attributesOf(names, resources)
      })
    } catch (error) {
      mistakes = [error as ConditionMistake]
    }
    for (const { offset, message } of mistakes) this.#report(path, text, offset, message)
    const sound = mistakes.length === 0 ? expression : null
    this.#checked.set(key, sound)
    return sound
  }
}

/**
 * The attributes that the resources with these names declare; `*` means all resources. An attribute that
 * they declare differently has the type `unknown`.
 */
function attributesOf (
  names: ReadonlySet<string>,
  resources: ReadonlyMap<string, ResourceDefinition>
): ReadonlyMap<string, AttributeType> {
  const found = new Map<string, AttributeType>()
  for (const name of names.has('*') ? resources.keys() : names) {
    for (const [attribute, declared] of resources.get(name)?.attributes ?? []) {
      const known = found.get(attribute)
      if (known === undefined) found.set(attribute, declared)
      else if (known.type !== declared.type) found.set(attribute, { type: 'unknown' })
      else if (known.choices === undefined || declared.choices === undefined) found.set(attribute, { type: known.type })
      else found.set(attribute, { type: known.type, choices: [...known.choices, ...declared.choices] })
    }
  }
  return found
}
