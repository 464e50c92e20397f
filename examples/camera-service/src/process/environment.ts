import { environment } from '@marty/config'

const PASSED_ON = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'LD_LIBRARY_PATH']

/** What a program needs of our environment and no more: our secrets stay ours, and variables such as MTX_* must not overrule what we configure. */
export function childEnvironment (): NodeJS.ProcessEnv {
  return Object.fromEntries(
    PASSED_ON.map(name => [name, environment(name)] as const).filter(([, value]) => value !== undefined)
  )
}
