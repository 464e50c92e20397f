import { formatProblem } from '@marty/config'
import { EXIT, type Command } from './command.js'
import { count, readNamedFile, readPolicyFile, refuse } from './policy-file.js'

export const policyTest: Command = {
  name: 'policy test',
  usage: 'FILE TESTS [--coverage] [--json]',
  summary: 'Runs the tests of a policy file',
  options: {
    coverage: { type: 'boolean', help: 'Fail when no test covers a rule of the policy' },
    json: { type: 'boolean', help: 'Write the result as JSON' }
  },
  positionals: ['FILE', 'TESTS'],
  async run ([file = '', tests = ''], { coverage = false, json = false }, output) {
    const { policy, problems } = await readPolicyFile(file)
    if (policy === null) return refuse(file, problems, json === true, output)
    const { testPolicy } = await import('@marty/rbac')
    const report = testPolicy(policy, await readNamedFile(tests), tests)
    if (report.problems.length > 0) return refuse(tests, report.problems, json === true, output)
    const { passed, failures, uncovered } = report
    if (json === true) {
      output.out(`${JSON.stringify({ file, tests, passed, failed: failures.length, failures, uncovered }, null, 2)}\n`)
    } else {
      for (const failure of failures) output.err(`${formatProblem(failure)}\n`)
      if (coverage === true) for (const rule of uncovered) output.err(`${formatProblem(rule)}\n`)
      output.out(
        `${count(passed + failures.length, 'decision')}: ${passed} as expected, ${failures.length} not\n` +
          (uncovered.length === 0
            ? ''
            : `${count(uncovered.length, 'rule')} not covered${coverage === true ? '' : ', see --coverage'}\n`)
      )
    }
    return failures.length === 0 && (coverage !== true || uncovered.length === 0) ? EXIT.ok : EXIT.testFailed
  }
}
