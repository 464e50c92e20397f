import type { Rule } from '../finding.js'

export const envFile: Rule = {
  name: 'env-file',
  severity: 'high',
  summary: 'a .env file that git tracks (.env.example and its like are welcome)',
  find ({ names, tracked }, notRun) {
    if (!tracked.known) {
      notRun(`which files git tracks is not known: ${tracked.reason}`)
      return []
    }
    return names
      .filter(file => /(?:^|\/)\.env(?:\.[^/]+)?$/i.test(file) && !/\.(?:example|sample|template|dist)$/i.test(file))
      .map(file => ({
        file,
        index: 0,
        message: 'a .env file is tracked by git',
        advice:
          'Run "git rm --cached" on it, ignore it, and replace every secret in it; track a .env.example without ' +
            'values instead.'
      }))
  }
}
