import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'

/** What the compiler says about a program, without the positions. */
function messagesFor (file: string): string[] {
  const program = ts.createProgram([file], {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: []
  })
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
}

t.test('for a misspelt member or permission in `rule`, the compiler names the nearest one', async t => {
  const folder = t.testdir({
    'package.json': '{ "type": "module" }',
    'app.ts': `import { rule } from '@marty/security'
      declare module '@marty/rbac' {
        interface PermissionRegister { permission: 'report:read' | 'report:write' }
      }
      export const rules = [
        rule({ permission: 'report:read', limits: ['few'] }),
        rule({ premission: 'report:read' }),
        rule({ permission: 'report:raed' })
      ]`
  })
  const [member, permission, ...others] = messagesFor(join(folder, 'app.ts'))
  t.match(member, "Did you mean to write 'permission'?")
  t.match(permission, 'Did you mean \'"report:read"\'?')
  t.strictSame(others, [])
})
