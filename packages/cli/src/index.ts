export { runCommandLine } from './command-line.js'
export { EXIT, type ExitCode, type Output } from './command.js'
