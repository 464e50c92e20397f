import t from 'tap'
import { load } from 'js-yaml'
import { read, yamlFiles } from './files.mjs'

const forms = yamlFiles('.github/ISSUE_TEMPLATE').filter(({ file }) => !file.endsWith('/config.yml'))
const kinds = new Set(['markdown', 'input', 'textarea', 'dropdown', 'checkboxes'])

t.test('there is a form for bugs and one for features', async t => {
  t.strictSame(forms.map(({ file }) => file.split('/').pop()).sort(), ['bug.yml', 'feature.yml'])
})

for (const { file, content } of forms) {
  t.test(`${file} is a form that GitHub shows`, async t => {
    for (const field of ['name', 'description']) t.type(content[field], 'string')
    t.ok(content.body.some(({ type }) => type !== 'markdown'), 'something to fill in')
    for (const { type, id, attributes } of content.body) {
      t.ok(kinds.has(type), type)
      if (type === 'markdown') t.type(attributes.value, 'string')
      else t.type(attributes.label, 'string', id)
    }
    const ids = content.body.flatMap(({ id }) => id ?? [])
    t.equal(new Set(ids).size, ids.length, 'every id is unique')
  })
}

t.test('vulnerability reports are directed to SECURITY.md, and the forms cannot be skipped', async t => {
  t.match(read('.github/ISSUE_TEMPLATE/bug.yml'), '[SECURITY.md](../security/policy)')
  const chooser = load(read('.github/ISSUE_TEMPLATE/config.yml'))
  t.equal(chooser.blank_issues_enabled, false)
  const { repository } = JSON.parse(read('packages/core/package.json'))
  const policy = repository.url.replace(/^git\+/, '').replace(/\.git$/, '/security/policy')
  t.strictSame(chooser.contact_links.map(({ url }) => url), [policy])
  t.match(read('SECURITY.md'), 'privately')
  t.match(read('.github/pull_request_template.md'), 'SECURITY.md')
})
