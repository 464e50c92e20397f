import { join, parse, resolve } from 'node:path'
import { loadConfig, environment, type LoadedConfig } from '@marty/config'
import { existsSync } from 'node:fs'
import { configSchema, type CameraServiceConfig } from './schema.js'
import type { TlsFiles } from '../tls/certificate.js'

/** Root folder of the checkout or installation that contains this file. */
export const projectRoot: string = resolve(import.meta.dirname, '../../../..')

/** Files that come with the service. */
export const shipped = {
  policy: join(projectRoot, 'policies/rbac_policies.yaml'),
  config: resolve(import.meta.dirname, '../../camera-service.yaml'),
  web: resolve(import.meta.dirname, '../../web'),
  /** Folder in which setup installs MediaMTX. */
  mediamtx: join(projectRoot, '.cache/mediamtx/bin')
} as const

/** The settings, with absolute paths for all folders. */
export interface Settings {
  readonly config: CameraServiceConfig
  readonly loaded: LoadedConfig<typeof configSchema>
  readonly dataDir: string
  readonly recordings: string
  readonly snapshots: string
  readonly policyFile: string
  /** Null when the operator's own policy has no tests. */
  readonly policyTests: string | null
  readonly apiKeysFile: string
  /** Null when `secret_key` signs the tokens. */
  readonly signingKeysFile: string | null
  readonly auditFile: string
  /** Null when TLS is off. */
  readonly tls: TlsFiles | null
  /** The configured MediaMTX binary; programs without a configured path are found on `searchPath`. */
  readonly mediamtxBinary: string
  readonly searchPath: string
}

/** Loads `camera-service.yaml` (or the file CAMERA_SERVICE_CONFIG names) and the environment. Throws ConfigError. */
export function loadSettings (file: string | undefined = environment('CAMERA_SERVICE_CONFIG')): Settings {
  const path = file ?? (existsSync('camera-service.yaml') ? resolve('camera-service.yaml') : shipped.config)
  const loaded = loadConfig({
    schema: configSchema,
    file: path,
    envPrefix: 'CAMERA_SERVICE',
    reservedEnv: ['CAMERA_SERVICE_CONFIG', 'CAMERA_SERVICE_JWT_SECRET']
  })
  const config = loaded.value as CameraServiceConfig
  // Relative folders are resolved from the project root, so that every command uses the same ones, in any directory.
  const dataDir = resolve(projectRoot, config.data_dir)
  const { ssl } = config.security
  const fromProject = (path: string): string => path === '' ? '' : resolve(projectRoot, path)
  const inData = (configured: string, name: string): string =>
    configured === '' ? join(dataDir, name) : resolve(projectRoot, configured)
  const policyFile =
    config.security.policy_file === '' ? shipped.policy : resolve(projectRoot, config.security.policy_file)
  return {
    config,
    loaded,
    dataDir,
    recordings: inData(config.recording.folder, 'recordings'),
    snapshots: inData(config.snapshots.folder, 'snapshots'),
    policyFile,
    policyTests:
      config.security.policy_tests === ''
        ? testsBeside(policyFile)
        : resolve(projectRoot, config.security.policy_tests),
    apiKeysFile: inData(config.security.api_keys.storage_file, 'api-keys.json'),
    signingKeysFile:
      config.security.jwt.signing_keys_file === '' ? null : resolve(projectRoot, config.security.jwt.signing_keys_file),
    auditFile: inData(config.security.audit.file, 'audit.log'),
    tls: ssl.enabled ? { certFile: fromProject(ssl.cert_file), keyFile: fromProject(ssl.key_file) } : null,
    mediamtxBinary: config.mediamtx.binary !== '' ? config.mediamtx.binary : (environment('MEDIAMTX_BIN') ?? ''),
    searchPath: environment('PATH') ?? ''
  }
}

/** The tests of `rbac.yaml` are in `rbac.test.yaml` beside it, as for the shipped policy. */
function testsBeside (policyFile: string): string | null {
  const { dir, name, ext } = parse(policyFile)
  const tests = join(dir, `${name}.test${ext}`)
  return existsSync(tests) ? tests : null
}
