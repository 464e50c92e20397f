import neostandard from 'neostandard'

export default [
  { ignores: ['**/dist/**', '**/dist-test/**', '**/.cache/**', '**/vendor/**', 'coverage/**', 'data/**', '.tap/**'] },
  ...neostandard({ ts: true }),
  {
    rules: {
      'no-console': 'error',
      'no-void': ['error', { allowAsStatement: true }]
    }
  },
  { files: ['tools/**', '**/test/**', 'packages/cli/**'], rules: { 'no-console': 'off' } }
]
