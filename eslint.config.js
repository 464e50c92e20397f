import neostandard from 'neostandard'

const SHORT_CODE = {
  code: 120,
  ignoreUrls: true,
  ignoreStrings: true,
  ignoreTemplateLiterals: true,
  ignoreRegExpLiterals: true
}

export default [
  { ignores: ['**/dist/**', '**/dist-test/**', '**/.cache/**', 'coverage/**', 'data/**', '.tap/**'] },
  ...neostandard({ ts: true }),
  ...neostandard({ files: ['examples/*/web/**/*.js'], env: ['browser'], noStyle: true }),
  {
    rules: {
      'no-console': 'error',
      'no-nested-ternary': 'error',
      'no-void': ['error', { allowAsStatement: true }],
      '@stylistic/max-len': ['error', SHORT_CODE],
      // A text that cannot be broken well may be a little longer than the code.
      'max-len': ['error', { code: 140, ignoreUrls: true, ignoreRegExpLiterals: true }]
    }
  },
  // The pages of the documentation stand in these files as they are written: a paragraph is a line.
  { files: ['docs/*.mjs'], rules: { 'max-len': 'off' } },
  // The compiler finds what is undefined; the core rule knows no types.
  {
    files: ['**/*.ts'],
    rules: {
      'no-undef': 'off',
      'no-use-before-define': 'off',
      '@typescript-eslint/no-use-before-define': ['error', { functions: false, classes: false, variables: false }]
    }
  },
  // The examples are read from top to bottom: what a file uses stands above, except for functions.
  {
    files: ['examples/**/*.ts'],
    rules: {
      '@typescript-eslint/no-use-before-define': ['error', { functions: false, classes: true, variables: true }]
    }
  },
  {
    files: ['packages/*/src/**', 'examples/*/src/**', 'tools/*/src/**'],
    rules: {
      '@stylistic/member-delimiter-style': ['error', {
        multiline: { delimiter: 'none' },
        singleline: { delimiter: 'comma', requireLast: false }
      }]
    }
  },
  { files: ['tools/**', '**/test/**', 'packages/cli/**'], rules: { 'no-console': 'off' } }
]
