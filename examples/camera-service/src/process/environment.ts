import { environment } from '@marty/config'

const PASSED_ON = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'LD_LIBRARY_PATH']

/**
 * Only the environment variables that a child process needs. Our secrets must not reach it, and variables such as MTX_*
 * must not override our configuration.
 */
export function childEnvironment (): NodeJS.ProcessEnv {
  return Object.fromEntries(
    PASSED_ON.map(name => [name, environment(name)] as const).filter(([, value]) => value !== undefined)
  )
}
