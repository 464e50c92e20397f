/**
 * @typedef {'MARTY_SETUP_ARGUMENT_INVALID' | 'MARTY_SETUP_NODE_TOO_OLD' | 'MARTY_SETUP_LOCKFILE_STALE' |
 *   'MARTY_SETUP_NPM_FAILED' | 'MARTY_SETUP_PARTS_MISSING' | 'MARTY_SETUP_APT_FAILED' |
 *   'MARTY_SETUP_MEDIAMTX_UNUSABLE' | 'MARTY_SETUP_MEDIAMTX_REFUSED' | 'MARTY_SETUP_MEDIAMTX_UNREACHABLE' |
 *   'MARTY_SETUP_MEDIAMTX_MISSING' | 'MARTY_SETUP_GO_MISSING' | 'MARTY_SETUP_GO_TOO_OLD' |
 *   'MARTY_SETUP_GO_FAILED' | 'MARTY_SETUP_COMPILE_FAILED'} SetupErrorCode
 */

/**
 * A problem that makes a step of setup fail. `remedy` is the exact command or action that solves it. `output` is what
 * the failed tool printed. Only the limit in command.mjs shortens it.
 */
export class SetupError extends Error {
  /**
   * @param {SetupErrorCode} code
   * @param {string} message
   * @param {{ remedy?: string, output?: string, cause?: unknown }} [details]
   */
  constructor (code, message, { remedy, output, cause } = {}) {
    super(message, { cause })
    this.name = 'SetupError'
    this.code = code
    this.remedy = remedy
    this.output = output
  }
}
