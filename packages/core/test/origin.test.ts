import t from 'tap'
import { isOrigin } from '@marty/core'

t.test('an origin is written exactly as browsers send it', async t => {
  for (const origin of ['https://app.example.org', 'http://localhost:5173', 'https://[::1]:8443']) t.ok(isOrigin(origin))
  const others = [
    '', '*', 'null', 'app.example.org', 'https://app.example.org/', 'https://App.example.org', 'https://a.example:443',
    'https://*.example.org', 'https://user@app.example.org', 'https://app.example.org ', 'file:///etc'
  ]
  for (const other of others) t.notOk(isOrigin(other), other)
})
