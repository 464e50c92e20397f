import { ConfigError } from '@marty/config'
import { startCameraService, type CameraService } from './app.js'
import { PortsBusy } from './settings/errors.js'
import { loadSettings, type Settings } from './settings/settings.js'

const out = (text: string): void => { process.stdout.write(text + '\n') }
const fail = (text: string): never => {
  process.stderr.write(text + '\n')
  process.exit(1)
}

const settings = load()
const starting = start(settings)
// Set up before the first child process exists: a signal during the start, or a second signal, must not leave child
// processes behind.
let closing = false
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => { shutDown(signal) })
process.on('SIGHUP', hangUp)
// Every write to a closed terminal emits an error. Unhandled, it would end the service before its child processes.
for (const stream of [process.stdout, process.stderr]) if (stream.isTTY) stream.on('error', () => {})
announce(await starting)

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
    if (error instanceof PortsBusy) return fail(error.message)
    return fail(`The service could not be started: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function announce ({ addresses, warnings }: CameraService): void {
  if (closing) return
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

/** SIGHUP in a terminal means that it was closed: shut down. Otherwise reload the certificate, as other daemons do. */
function hangUp (): void {
  if (process.stdout.isTTY) {
    shutDown('SIGHUP')
    return
  }
  starting.then(service => { service.reloadCertificate() }, () => { /* the failed start has been reported */ })
}

function shutDown (signal: NodeJS.Signals): void {
  if (closing) return
  closing = true
  const seconds = settings.config.server.shutdown_timeout_seconds
  setTimeout(() => {
    fail(
      `The service has not closed within ${seconds} s after ${signal} and ends now. The next start finishes the ` +
        'recordings that were running.'
    )
  }, seconds * 1000).unref()
  starting.then(async service => {
    service.app.log.info({ signal }, 'closing the service')
    await service.close()
    process.exit(0)
  }).catch((error: unknown) => { fail(`The service could not be closed properly: ${String(error)}`) })
}
