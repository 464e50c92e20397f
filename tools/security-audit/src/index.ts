export { audit, type AuditReport } from './audit.js'
export { AuditError } from './errors.js'
export {
  SEVERITIES, type Finding, type NotRun, type Severity, type SkippedFile, type SuppressedFinding
} from './finding.js'
export { runCommandLine, type Output } from './command-line.js'
