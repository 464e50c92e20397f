// Conventional commits (https://www.conventionalcommits.org), 72 characters in the first line, one topic a commit.
const types = ['build', 'chore', 'ci', 'docs', 'feat', 'fix', 'perf', 'refactor', 'revert', 'style', 'test']

// A second "type(scope):" or a semicolon in the subject joins two commits.
const secondTopic = new RegExp(`;|\\b(${types.join('|')})(\\([^)]*\\))?!?:`)

/** @type {import('@commitlint/types').UserConfig} */
export default {
  // The default pattern knows no "!" for a change that breaks users.
  parserPreset: {
    parserOpts: {
      headerPattern: /^(\w*)(?:\(([^)]*)\))?!?: (.*)$/,
      headerCorrespondence: ['type', 'scope', 'subject']
    }
  },
  plugins: [{
    rules: {
      'one-topic': ({ scope, subject }) => [
        !/[,/]/.test(scope ?? '') && !secondTopic.test(subject ?? ''),
        'a commit has one topic: one scope, and no second change in the subject; make two commits'
      ]
    }
  }],
  rules: {
    'header-max-length': [2, 'always', 72],
    'header-trim': [2, 'always'],
    'type-empty': [2, 'never'],
    'type-case': [2, 'always', 'lower-case'],
    'type-enum': [2, 'always', types],
    'scope-case': [2, 'always', 'kebab-case'],
    'subject-empty': [2, 'never'],
    'subject-full-stop': [2, 'never', '.'],
    'body-leading-blank': [2, 'always'],
    'one-topic': [2, 'always']
  }
}
