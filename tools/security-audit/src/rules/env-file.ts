import type { Rule } from '../finding.js'

export const envFile: Rule = {
  name: 'env-file',
  severity: 'high',
  summary: 'a .env file that git tracks (.env.example and similar files are allowed)',
  find ({ names, tracked }, notRun) {
    if (!tracked.known) {
      notRun(`it is not known which files git tracks: ${tracked.reason}`)
      return []
    }
    return names
      .filter(file => /(?:^|\/)\.env(?:\.[^/]+)?$/i.test(file) && !/\.(?:example|sample|template|dist)$/i.test(file))
      .map(file => ({
        file,
        index: 0,
        message: 'a .env file is tracked by git',
        advice:
          'Run "git rm --cached" on it, add it to .gitignore, and replace every secret in it. Track a ' +
            '.env.example without values instead.'
      }))
  }
}
