import { prepareLoad, runLoad, type LoadJob } from './http-load.js'

process.on('message', ({ task, job }: { task: 'prepare' | 'run', job: LoadJob }) => {
  const work: Promise<unknown> = task === 'run' ? runLoad(job) : prepareLoad(job)
  work.then(
    result => {
      process.send!({ result: result ?? null })
    },
    (error: Error) => {
      process.send!({ error: error.message })
    }
  )
})
process.on('disconnect', () => { process.exit() })
