import { compare, confOf, durationSeconds, recordConfOf, type PathSpec } from '@marty/camera-service/mediamtx/path-spec.js'
import t from 'tap'

const spec: PathSpec = { name: 'cs/camera0', source: null, record: { folder: '/data/r' } }

t.test('the configuration as MediaMTX returns it is no change', async t => {
  t.equal(compare(spec, { ...confOf(spec), recordSegmentDuration: '1d', recordDeleteAfter: '', maxReaders: 0 }), 'none')
  t.equal(
    compare(
      { ...spec, record: null },
      { ...confOf({ ...spec, record: null }), recordPath: './elsewhere', recordDeleteAfter: '1d' }
    ),
    'none'
  )
})

t.test('a change of the recording patches the path; any other change replaces it', async t => {
  t.equal(compare(spec, undefined), 'replace')
  t.equal(compare(spec, confOf({ ...spec, record: null })), 'record')
  t.equal(compare({ ...spec, record: null }, confOf(spec)), 'record')
  t.equal(compare(spec, { ...confOf(spec), recordPath: '/other' }), 'record')
  t.equal(compare({ ...spec, source: 'rtsp://192.0.2.1/a' }, confOf({ ...spec, source: 'rtsp://192.0.2.1/b' })), 'replace')
  t.equal(recordConfOf(null)['record'], false)
})

t.test('durations are parsed in the format of MediaMTX', async t => {
  for (const [text, seconds] of [
    ['24h', 86400],
    ['1d', 86400],
    ['1h0m0s', 3600],
    ['1m30s', 90],
    ['', 0],
    ['0s', 0],
    ['500ms', 0.5]
  ] as const) {
    t.equal(durationSeconds(text), seconds, text)
  }
  for (const text of ['soon', '10', '1 h', '-1s']) t.equal(durationSeconds(text), null, text)
})
