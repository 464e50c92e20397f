import t from 'tap'
import { audit } from '@marty/security-audit'
import { folderOf, pem, random32 } from './planted.js'

const base64 = random32.repeat(3)
const off = 'false'
const environmentName = ['NODE_TLS', 'REJECT_UNAUTHORIZED'].join('_')
const evaluate = 'ev' + 'al'
const secretName = 'sec' + 'ret'
const jwt = `eyJ${random32}.eyJ${random32}.`

interface Case {
  readonly rule: string
  readonly found: ReadonlyArray<readonly [file: string, text: string, place?: string]>
  readonly alike: ReadonlyArray<readonly [file: string, text: string]>
}

const CASES: readonly Case[] = [
  {
    rule: 'private-key',
    found: [
      ['key.pem', pem('', base64)],
      ['key.pem', `\n${pem('RSA ', base64)}`, '2:1'],
      ['key.json', JSON.stringify({ key: pem('EC ', base64) }), '1:9'],
      ['README.md', pem('OPENSSH ', base64)]
    ],
    alike: [
      ['key.pem', pem('', base64).replaceAll('PRIVATE', 'PUBLIC')],
      ['about.md', pem('', 'goes here')],
      ['code.js', `if (text.startsWith('${'-'.repeat(5)}BEGIN PRIVATE KEY${'-'.repeat(5)}')) refuse()`]
    ]
  },
  {
    rule: 'known-token',
    found: [
      ['a.js', `const id = '${'AK' + 'IA'}Q7ZTB2XKVLMWPR3C'`, '1:13'],
      ['a.md', `${'gh' + 'p_'}${random32}q7Zt`],
      ['a.txt', `${'git' + 'hub_pat_'}${random32.slice(0, 22)}_${base64.slice(0, 59)}`],
      ['a.txt', `${'gl' + 'pat-'}${random32.slice(0, 20)}`],
      ['a.txt', `${'xo' + 'xb-'}${random32}`],
      ['a.txt', `${'sk_' + 'live_'}${random32}`],
      ['a.txt', `${'AI' + 'za'}${random32}abc`],
      ['a.txt', `${'np' + 'm_'}${random32}q7Zt`],
      ['a.txt', `${'py' + 'pi-'}${base64}`],
      ['a.txt', `${'S' + 'G.'}${random32.slice(0, 22)}.${base64.slice(0, 43)}`],
      ['a.txt', `${jwt}${base64.slice(0, 43)}`],
      ['a.txt', `cam_prod_${random32.slice(0, 12)}_${base64.slice(0, 43)}_${random32.slice(0, 6)}`]
    ],
    alike: [
      ['a.js', `const id = '${'AK' + 'IA'}IOSFODNN7EXAMPLE'`],
      ['a.md', `tokens begin with ${'gh' + 'p_'} and 36 characters, as ${'gh' + 'p_'}${'x'.repeat(36)}`],
      ['a.txt', `${jwt}tooShortForAnySignature`],
      ['a.txt', `a ${base64} of base64`]
    ]
  },
  {
    rule: 'literal-secret',
    found: [
      ['a.ts', `const jwtSecret = '${random32}'`, '1:7'],
      ['a.ts', `const api_key: string = "${random32}"`],
      ['a.ts', `const ${secretName} = env['SECRET'] ?? '${random32}'`],
      ['a.ts', `// old password: '${random32}'`],
      ['a.json', `{ "dbPassword": "${random32}" }`],
      ['a.yaml', `jwt:\n  secret: ${random32}\n`, '2:3'],
      ['env.sh', `export API_TOKEN=${random32}\n`],
      ['.npmrc', `//registry.example/:_authToken=${random32}\n`]
    ],
    alike: [
      ['a.ts', 'const secret = process.env.JWT_SECRET_NUMBER_1'],
      ['a.ts', `const ${secretName} = 'a secret of more than 32 bytes, for tests'`],
      ['a.ts', `const ${secretName}Path = '${random32}'`],
      ['a.ts', `const ${secretName}Name = 'x'; const digest = '${random32}'`],
      ['a.ts', `const ${secretName} = \`\${prefix}${random32}\``],
      ['a.ts', `const ${secretName} = 'aaaaaaaaaaaa1111'`],
      ['a.ts', "const token = 'oauth2:access_token-2'"],
      ['a.ts', `const token = random32(${random32})`],
      ['a.json', '{ "password": "your-password-here-123" }'],
      ['a.yaml', 'secret: ${JWT_SECRET_2:-}\n'] // eslint-disable-line no-template-curly-in-string
    ]
  },
  {
    rule: 'env-file',
    found: [
      ['.env', 'A=1'],
      ['deep/.env.production', 'A=1', '1:1']
    ],
    alike: [
      ['.env.example', 'A='],
      ['.environment', 'A=1'],
      ['env.ts', 'export {}']
    ]
  },
  {
    rule: 'tls-unverified',
    found: [
      ['a.ts', `connect({\n  rejectUnauthorized: ${off}\n})`, '2:3'],
      ['a.js', `options.rejectUnauthorized = ${off}`],
      ['a.mjs', `connect({ 'rejectUnauthorized': ${off} })`]
    ],
    alike: [
      ['a.ts', 'connect({ rejectUnauthorized: true })'],
      ['a.ts', `// never rejectUnauthorized: ${off}\n/* rejectUnauthorized: ${off} */`],
      ['a.ts', `log("rejectUnauthorized: ${off} is refused")`],
      ['a.md', `rejectUnauthorized: ${off}`]
    ]
  },
  {
    rule: 'tls-unverified-env',
    found: [
      ['a.ts', `process.env.${environmentName} = '0'`, '1:13'],
      ['a.ts', `process.env['${environmentName}'] = '0'`],
      ['a.ts', `spawn('x', { env: { ${environmentName}: '0' } })`],
      ['a.sh', `export ${environmentName}=0`],
      ['Dockerfile', `FROM a:1\nUSER node\nENV ${environmentName} 0\n`, '3:5'],
      ['a.yaml', `env:\n  ${environmentName}: "0"\n`],
      ['package.json', `{ "scripts": { "start": "${environmentName}=0 node ." } }`]
    ],
    alike: [
      ['a.ts', `if (process.env.${environmentName} === '0') refuse()`],
      ['a.ts', `process.env.${environmentName} = '1'`],
      ['a.ts', `delete process.env.${environmentName}`],
      ['a.sh', `# ${environmentName}=0\nunset ${environmentName}\n`],
      ['a.md', `never set ${environmentName}=0`]
    ]
  },
  {
    rule: 'eval',
    found: [
      ['a.js', `const x = 1\n  ${evaluate}(text)`, '2:3'],
      ['a.js', `globalThis.${evaluate}(text)`],
      ['a.js', `const x = yes ? ${evaluate}(a) : b`],
      ['a.js', `\`\${${evaluate}(a)}\``],
      ['a.ts', 'const f = new ' + 'Function("a", text)'],
      ['a.ts', "const u = 'http://a'; " + evaluate + '(u)']
    ],
    alike: [
      ['a.js', `redis.${evaluate}(script)`],
      ['a.js', `const medi${evaluate}(x)`],
      ['a.js', `// ${evaluate}(text)\nlog('${evaluate}(text)', /${evaluate}\\(x\\)/, \`${evaluate}(text)\`)`],
      ['a.ts', `interface Redis {\n  evalsha (a: string): void\n  ${evaluate} (a: string): void\n}`],
      ['a.ts', `const o = { ${evaluate} (a) { return a } }; function ${evaluate} (a) {}`],
      ['a.ts', 'type F = (new' + 'Function: Function) => void']
    ]
  },
  {
    rule: 'shell-command',
    found: [
      ['a.ts', "import { exec } from 'node:child_process'\nexec(`ls ${folder}`)", '2:1'], // eslint-disable-line no-template-curly-in-string
      ['a.ts', "import { execSync as sh } from 'child_process'\nsh('ls ' + folder, { cwd })"],
      ['a.ts', "import * as cp from 'node:child_process'\ncp.exec('ls ' + folder)"],
      ['a.ts', "import { exec } from 'node:child_process'\nconst run = promisify(exec)\nawait run('ls ' + folder)"],
      ['a.cjs', "const { exec: sh } = require('child_process')\nsh('ls ' + folder)"],
      ['a.cjs', "require('child_process').exec('ls ' + folder)"]
    ],
    alike: [
      [
        'a.ts',
        "import { exec } from 'node:child_process'\nexec('ls -l' + ' /tmp', { cwd: a + b })\n" +
          // eslint-disable-next-line no-template-curly-in-string
          "exec(`ls`)\n/a/.exec('b' + c)\ndb.exec(`x ${y}`)"
      ],
      ['a.ts', "import { execFile } from 'node:child_process'\nexecFile('ls', ['-l' + folder])"],
      ['a.ts', "import { exec } from './other.js'\nexec('ls ' + folder)"]
    ]
  },
  {
    rule: 'cors-credentials',
    found: [
      ['a.ts', "app.register(cors, {\n  origin: '*',\n  credentials: true\n})", '2:3'],
      ['a.ts', 'cors({ credentials: true, methods: [a, b], origin: true })'],
      ['a.ts', "reply.header('Access-Control-Allow-Origin', '*').header('Access-Control-Allow-Credentials', 'true')"]
    ],
    alike: [
      ['a.ts', "cors({ origin: '*' })"],
      ['a.ts', "cors({ origin: 'https://a.example', credentials: true })"],
      ['a.ts', "const a = { origin: '*' }; const b = { credentials: true }"],
      ['a.ts', "// cors({ origin: '*', credentials: true })"],
      ['a.ts', "reply.header('Access-Control-Allow-Origin', '*')"],
      [
        'a.ts',
        JSON.stringify("header('Access-Control-Allow-Origin', '*').header('Access-Control-Allow-Credentials', 'true')")
      ]
    ]
  },
  {
    rule: 'docker-root',
    found: [
      ['Dockerfile', 'FROM node:20.20\nCMD ["node", "."]\n', '1:1'],
      ['deep/api.Dockerfile', 'FROM node:20.20\nUSER node\nUSER 0:0\n', '3:1'],
      ['Dockerfile', 'FROM node:20.20 AS build\nUSER node\nFROM node:20.20\nRUN a\n', '3:1']
    ],
    alike: [
      ['Dockerfile', 'FROM node:20.20\nUSER root\nRUN a \\\n  FROM\nUSER node\n'],
      ['Dockerfile', 'FROM node:20.20 AS base\nUSER node\nFROM base\nRUN a\n'],
      ['Dockerfile.md', 'FROM node:20.20']
    ]
  },
  {
    rule: 'docker-latest',
    found: [
      ['Dockerfile', 'FROM node:latest\nUSER node\n', '1:1'],
      ['Dockerfile', 'FROM --platform=linux/amd64 registry.example:5000/node\nUSER node\n'],
      ['Dockerfile', 'ARG TAG=latest\nFROM node:${TAG}\nUSER node\n', '2:1'] // eslint-disable-line no-template-curly-in-string
    ],
    alike: [
      ['Dockerfile', 'FROM node:20.20 AS build\nFROM build\nUSER node\n'],
      ['Dockerfile', '# FROM node:latest\nFROM scratch\nUSER node\n'],
      ['Dockerfile', `FROM node@sha256:${'0a'.repeat(32)}\nUSER node\n`],
      ['Dockerfile', 'ARG TAG=20\nFROM node:$TAG\nUSER node\n']
    ]
  },
  {
    rule: 'lockfile-missing',
    found: [
      ['package.json', '{ "dependencies": { "a": "1.0.0" } }', '1:1'],
      ['deep/package.json', '{ "devDependencies": { "a": "^1.0.0" } }']
    ],
    alike: [
      ['package.json', '{ "name": "a" }'],
      ['package.json', '{ "peerDependencies": { "a": "1" } }']
    ]
  },
  {
    rule: 'dependency-source',
    found: [
      ['package.json', '{\n  "name": "a",\n  "dependencies": {\n    "a": "github:b/a"\n  }\n}', '4:5'],
      ...[
        'git+https://a.example/a.git',
        'git@a.example:a.git',
        'b/a#main',
        'http://a.example/a.tgz',
        'https://a.example/a.git#1'
      ].map(from => ['package.json', JSON.stringify({ devDependencies: { a: from } })] as const),
      [
        'package-lock.json',
        `{ "packages": { "node_modules/a": {\n  "resolved": "${'http' + '://'}a.example/a.tgz" } } }`,
        '2:3'
      ]
    ],
    alike: [
      ...['^1.0.0', '*', 'latest', 'npm:b@1', 'file:../a', 'workspace:*', '@scope/a', 'https://a.example/a.tgz'].map(
        from => ['package.json', JSON.stringify({ dependencies: { a: from } })] as const
      ),
      ['package.json', JSON.stringify({ repository: { url: 'git+https://a.example/a.git' } })],
      ['package-lock.json', '{ "packages": { "node_modules/a": { "resolved": "https://a.example/a.tgz" } } }']
    ]
  }
]

for (const { rule, found, alike } of CASES) {
  t.test(rule, async t => {
    for (const [file, text, place] of found) {
      const findings = audit(folderOf(t, { [file]: text })).findings.filter(finding => finding.rule === rule)
      t.equal(findings.length, 1, `${file}: ${text.slice(0, 60)}`)
      const [finding] = findings
      t.equal(finding?.file, file)
      if (place !== undefined) t.equal(`${finding?.line}:${finding?.column}`, place)
      t.not(finding?.advice, '')
    }
    for (const [file, text] of alike) {
      t.strictSame(
        audit(folderOf(t, { [file]: text })).findings.filter(finding => finding.rule === rule),
        [],
        `not in ${file}: ${text.slice(0, 60)}`
      )
    }
  })
}

t.test('a lockfile pins what it names: a package beside it, its workspaces, and no stranger further down', async t => {
  const manifest = '{ "dependencies": { "a": "1.0.0" } }'
  const lock = JSON.stringify({ packages: { '': {}, 'packages/one': {} } })
  const files = {
    'package.json': manifest,
    'package-lock.json': lock,
    'packages/one/package.json': manifest,
    'elsewhere/package.json': manifest
  }
  const folder = folderOf(t, files)
  t.match(audit(folder).findings, [{ rule: 'lockfile-missing', file: 'elsewhere/package.json' }])
  t.equal(audit(folder).findings.length, 1)
  t.strictSame(audit(`${folder}/packages/one`).findings, [], 'also when only the workspace is audited')
  t.match(audit(folderOf(t, { ...files, 'package-lock.json': '{' })).notRun, [
    { rule: 'lockfile-missing', file: 'elsewhere/package.json' },
    { rule: 'lockfile-missing', file: 'packages/one/package.json' }
  ])
})

t.test('a check that cannot be made is not run, and not clean', async t => {
  t.match(audit(folderOf(t, { 'package.json': '{ broken' })).notRun, [
    { rule: 'lockfile-missing', file: 'package.json', reason: 'not a JSON object' },
    { rule: 'dependency-source', file: 'package.json', reason: 'not a JSON object' }
  ])
  t.match(audit(folderOf(t, { Dockerfile: 'ARG IMAGE\nFROM $IMAGE\nUSER $WHO\n' })).notRun, [
    { rule: 'docker-root', file: 'Dockerfile' },
    { rule: 'docker-latest', file: 'Dockerfile' }
  ])
})
