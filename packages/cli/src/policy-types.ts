import { EXIT, UsageError, type Command } from './command.js'
import { readNamedFile, readPolicyFile, refuse, writeNamedFile } from './policy-file.js'

export const policyTypesCommand: Command = {
  name: 'policy types',
  usage: 'FILE [--out FILE [--check]] [--json]',
  summary: 'Writes the names of a policy file as TypeScript types, so that a misspelt permission does not compile',
  options: {
    out: { type: 'string', help: 'The declaration file (default: standard output)' },
    check: {
      type: 'boolean',
      help: 'Write nothing; exit with 4 when the declaration file does not match the policy'
    },
    json: { type: 'boolean', help: 'Write the result as JSON' }
  },
  positionals: ['FILE'],
  async run ([file = ''], values, output) {
    const { out, check = false, json = false } = values as { out?: string, check?: boolean, json?: boolean }
    if (check && out === undefined) throw new UsageError('--check needs --out, the declaration file to compare')
    const { policy, problems } = await readPolicyFile(file)
    if (policy === null) return refuse(file, problems, json, output)
    const { policyTypes } = await import('@marty/rbac')
    const types = policyTypes(policy)
    // Git may have changed the line endings at checkout.
    const current = !check || (await readNamedFile(out!)).replaceAll('\r\n', '\n') === types
    if (out !== undefined && !check) await writeNamedFile(out, types)

    if (json) {
      output.out(
        `${JSON.stringify({ file, out: out ?? null, current, ...(out === undefined && { types }) }, null, 2)}\n`
      )
    } else if (out === undefined) output.out(types)
    else if (current) output.out(`${out} ${check ? 'agrees with' : 'is written from'} ${file}\n`)
    else output.err(`${out} does not agree with ${file}; run: marty policy types ${file} --out ${out}\n`)
    return current ? EXIT.ok : EXIT.testFailed
  }
}
