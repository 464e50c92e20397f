import type { Rule } from './finding.js'
import { corsCredentials } from './rules/cors.js'
import { dependencySource, lockfileMissing } from './rules/dependencies.js'
import { dockerLatest, dockerRoot } from './rules/docker.js'
import { envFile } from './rules/env-file.js'
import { evalRule } from './rules/eval.js'
import { knownToken, literalSecret, privateKey } from './rules/secrets.js'
import { shellCommand } from './rules/shell-command.js'
import { tlsEnvironment, tlsUnverified } from './rules/tls.js'

/** All rules, in the order in which they run. */
export const RULES: readonly Rule[] = [
  privateKey, knownToken, literalSecret, envFile,
  tlsUnverified, tlsEnvironment, evalRule, shellCommand, corsCredentials,
  dockerRoot, dockerLatest, lockfileMissing, dependencySource
]
