import neostandard from 'neostandard'

export default [
  { ignores: ['**/dist/**', '**/dist-test/**', '**/.cache/**', 'coverage/**', 'data/**', '.tap/**'] },
  ...neostandard({ ts: true }),
  ...neostandard({ files: ['examples/*/web/**/*.js'], env: ['browser'], noStyle: true }),
  {
    rules: {
      'no-console': 'error',
      'no-void': ['error', { allowAsStatement: true }]
    }
  },
  // The compiler finds what is undefined; the core rule knows no types.
  { files: ['**/*.ts'], rules: { 'no-undef': 'off', 'no-use-before-define': 'off', '@typescript-eslint/no-use-before-define': ['error', { functions: false, classes: false, variables: false }] } },
  // The examples are read from top to bottom: what a file uses stands above, except for functions.
  {
    files: ['examples/**/*.ts'],
    rules: {
      '@typescript-eslint/no-use-before-define': ['error', { functions: false, classes: true, variables: true }]
    }
  },
  // Tests follow: their tables of cases are wide.
  {
    files: ['packages/*/src/**', 'examples/*/src/**', 'tools/*/src/**'],
    rules: {
      '@stylistic/max-len': ['error', {
        code: 120,
        ignoreUrls: true,
        ignoreStrings: true,
        ignoreTemplateLiterals: true,
        ignoreRegExpLiterals: true,
        ignoreComments: true,
        ignoreTrailingComments: true
      }],
      '@stylistic/member-delimiter-style': ['error', {
        multiline: { delimiter: 'none' },
        singleline: { delimiter: 'comma', requireLast: false }
      }]
    }
  },
  { files: ['tools/**', '**/test/**', 'packages/cli/**'], rules: { 'no-console': 'off' } }
]
