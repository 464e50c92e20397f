import t from 'tap'
import { compareVersions } from '../src/version.mjs'

t.throws(() => compareVersions('latest', '1.0.0'), { message: /Not a version: "latest"/ })
t.ok(compareVersions('1.16.0', '1.17.0') < 0)
t.ok(compareVersions('1.9.9', '1.17.0') < 0, 'versions are compared by number, not by letter')
t.ok(compareVersions('v1.20.1', '1.17.0') > 0, 'a leading v is ignored')
t.ok(compareVersions('2.0', '1.99.99') > 0)
t.equal(compareVersions('1.26', '1.26.0'), 0, 'a missing number counts as 0')
t.equal(compareVersions('v1.26.0-rc1', '1.26.0'), 0, 'text after the numbers is ignored')
