import { didYouMean, didYouMeanOrKnown } from '@marty/core'
import { testPolicy } from './analysis/policy-tests.js'
import { loadPolicy, type Policy } from './engine/policy.js'
import { PolicyInvalid } from './errors.js'
import { optionInvalid, type ResolvedOptions } from './options.js'
import { firstProblems } from './parse/policy.js'
import { readText } from './reload/file.js'
import { textOf } from './reload/origin.js'

export interface FirstPolicy {
  readonly policy: Policy
  /** The text of the policy, in UTF-8. */
  readonly bytes: Buffer
  /** The environment of the service, by its name in the policy (not an alias). */
  readonly environment: string
}

/**
 * Loads the policy with which the service starts, and checks the options that name something of it. Throws if the
 * policy has mistakes, fails its tests, or does not define what the options name.
 */
export async function loadFirstPolicy (options: ResolvedOptions): Promise<FirstPolicy> {
  const file = options.policyFile ?? 'policy'
  const { bytes } = options.policy === undefined ? await readText(file) : { bytes: Buffer.from(options.policy) }
  const policy = await loadPolicy(textOf(bytes, file), file)
  const environment = environmentOf(options, policy)
  checkService(options, policy)
  if (options.policyTests !== undefined) await runTests(policy, options.policyTests)
  checkRefuseGain(options, policy)
  return { policy, bytes, environment }
}

function environmentOf ({ environment }: ResolvedOptions, { environmentNames, file }: Policy): string {
  const name = environmentNames.get(environment)
  if (name !== undefined) return name
  const hint = didYouMeanOrKnown(environment, environmentNames.keys())
  throw optionInvalid({
    field: 'environment', problem: `is "${environment}", which ${file} does not define${hint}`
  })
}

function checkService ({ service }: ResolvedOptions, { services, file }: Policy): void {
  if (service === undefined || services.includes(service)) return
  const hint = didYouMean(service, services)
  throw optionInvalid({ field: 'service', problem: `is "${service}", which ${file} does not define${hint}` })
}

async function runTests (policy: Policy, file: string): Promise<void> {
  const { bytes } = await readText(file)
  const { problems, failures } = testPolicy(policy, textOf(bytes, file), file)
  if (problems.length + failures.length > 0) throw new PolicyInvalid(firstProblems([...problems, ...failures], file))
}

function checkRefuseGain ({ reload }: ResolvedOptions, { environmentNames, file }: Policy): void {
  for (const name of reload.refuseGain) {
    if (environmentNames.has(name)) continue
    const hint = didYouMean(name, environmentNames.keys())
    throw optionInvalid({
      field: 'reload.refuseGain', problem: `names the environment "${name}", which ${file} does not define${hint}`
    })
  }
}
