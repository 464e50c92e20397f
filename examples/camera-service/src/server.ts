import { ConfigError } from '@marty/config'
import { PortsBusy, startCameraService, type CameraService } from './app.js'
import { loadSettings, type Settings } from './project.js'

const out = (text: string): void => { process.stdout.write(text + '\n') }
const fail = (text: string): never => {
  process.stderr.write(text + '\n')
  process.exit(1)
}

const settings = load()
const service = await start(settings)
announce(service)

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { shutDown(signal) })

function load (): Settings {
  try {
    return loadSettings()
  } catch (error) {
    if (error instanceof ConfigError) return fail(`The configuration is not valid:\n${error.message}`)
    throw error
  }
}

async function start (settings: Settings): Promise<CameraService> {
  try {
    return await startCameraService(settings)
  } catch (error) {
    if (error instanceof PortsBusy) return fail(error.problems.join('\n'))
    return fail(`The service could not be started: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function announce ({ addresses, warnings }: CameraService): void {
  for (const warning of warnings) out(`Warning: ${warning}`)
  out([
    '',
    `  Page    ${addresses.page}`,
    `  API     ${addresses.rpc}  (JSON-RPC 2.0)`,
    `  Health  ${addresses.health}`,
    '  Token   npm run -s token -- --role operator',
    ''
  ].join('\n'))
}

function shutDown (signal: NodeJS.Signals): void {
  const { app } = service
  app.log.info({ signal }, 'closing')
  const seconds = settings.config.server.shutdown_timeout_seconds
  const deadline = setTimeout(() => {
    app.log.error(`not closed after ${seconds} s; giving up`)
    process.exit(1)
  }, seconds * 1000)
  service.close().then(() => {
    clearTimeout(deadline)
    process.exit(0)
  }, (error: unknown) => {
    app.log.error({ err: error }, 'the service could not be closed in order')
    process.exit(1)
  })
}
