import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'
import t from 'tap'

// Who may import whom, for the whole repository. The layers are drawn in docs/architecture/overview.md.

const root = findRoot(import.meta.dirname)
const PLUGINS = ['auth', 'rbac', 'rate-limit', 'headers', 'audit', 'health', 'json-rpc', 'metrics']
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  config: ['core'],
  redis: ['core'],
  ...Object.fromEntries(PLUGINS.map(name => [name, ['core', 'config', 'redis']])),
  security: ['core', 'config', 'redis', ...PLUGINS],
  cli: ['core', 'config', 'redis', ...PLUGINS]
}

interface Source { readonly file: string, readonly text: string, readonly imports: readonly string[] }

const packages = readdirSync(join(root, 'packages')).filter(name => existsSync(join(root, 'packages', name, 'src')))
const examples = readdirSync(join(root, 'examples')).filter(name => existsSync(join(root, 'examples', name, 'src')))

/** The packages and the examples. */
const folders = [
  ...packages.map(name => join('packages', name)),
  ...examples.map(name => join('examples', name))
]

/** Imports and re-exports with names, imports without, and what is loaded while the program runs. */
const IMPORTS: readonly RegExp[] = [
  /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)['"]/g,
  /(?:^|\n)\s*import\s*['"]([^'"]+)['"]/g,
  /(?:\bimport|\bcreateRequire\(import\.meta\.url\))\(\s*['"]([^'"]+)['"]/g
]

t.test('every package belongs to a layer', async t => {
  t.strictSame([...packages].sort(), Object.keys(LAYERS).sort())
})

t.test('packages import only from layers below, and plugins never each other', async t => {
  for (const name of packages) {
    for (const source of sourcesOf(join(root, 'packages', name, 'src'))) {
      for (const target of martyImports(source).filter(target => target !== name)) {
        t.ok(LAYERS[name]?.includes(target), `${source.file} imports @marty/${target}`)
      }
    }
  }
})

t.test('no import circle by value inside a package', async t => {
  // The compiled files have no imports of types left: a circle that is found there is loaded in a circle.
  for (const folder of folders) {
    const home = join(root, folder, 'dist')
    const files = readdirSync(home, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.js'))
    const imports = new Map(files.map(file => [file, localImports(home, file)]))
    t.strictSame(circleIn(imports), null, folder)
  }
})

t.test('no folder holds more than thirty source files', async t => {
  for (const folder of folders) {
    const counts = new Map<string, number>()
    for (const { file } of sourcesOf(join(root, folder, 'src'))) {
      counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1)
    }
    for (const [name, count] of counts) t.ok(count <= 30, `${name} holds ${count}`)
  }
})

t.test('packages import each other by their public names only', async t => {
  for (const folder of folders) {
    const home = join(root, folder, 'src')
    for (const source of sourcesOf(home)) {
      for (const target of source.imports.filter(target => target.startsWith('.'))) {
        const reached = relative(home, resolve(dirname(join(root, source.file)), target))
        t.notOk(reached.startsWith('..'), `${source.file} imports ${target}`)
      }
      for (const target of source.imports.filter(target => /^@marty\/[^/]+\//.test(target))) {
        t.ok(isExported(target), `${source.file} imports ${target}, which its package exports`)
      }
    }
  }
})

t.test('core imports Fastify and nothing that does I/O', async t => {
  for (const source of sourcesOf(join(root, 'packages/core/src'))) {
    for (const target of source.imports.filter(target => !target.startsWith('.'))) {
      // Types and these names do nothing by themselves; what is required counts as imported.
      const harmless = [
        'type { IncomingMessage }', '{ STATUS_CODES }', '{ isIPv4, isIPv6 }', '{ createRequire }',
        '{ subscribe }', '{ isAbsolute }', '{ fileURLToPath }'
      ].some(names => source.text.includes(`import ${names} from '${target}'`))
      t.ok(['fastify', 'fastify-plugin', '@fastify/error'].includes(target) || harmless,
        `${source.file} imports ${target}`)
    }
  }
})

t.test('every dependency is declared where it is used', async t => {
  for (const folder of [...folders, 'tools/bench', 'tools/security-audit']) {
    const manifest = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'))
    // Its own name is at home in the declarations it generates for others.
    const declared = [manifest.name, ...Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })]
    for (const source of sourcesOf(join(root, folder, 'src'))) {
      for (const target of source.imports.filter(target => !target.startsWith('.') && !isBuiltin(target))) {
        t.ok(declared.includes(packageOf(target)), `${source.file} imports ${target}`)
      }
    }
    for (const name of Object.keys(manifest.dependencies ?? {})) {
      t.ok(
        sourcesOf(join(root, folder, 'src')).some(source => source.imports.some(target => packageOf(target) === name)),
        `${folder} declares ${name} and uses it`
      )
    }
  }
})

t.test('the environment is read in packages/config and Redis is opened in packages/redis, nowhere else', async t => {
  const all = folders.flatMap(folder => sourcesOf(join(root, folder, 'src')))
  for (const source of all) {
    if (!source.file.startsWith('packages/config/')) {
      t.notMatch(code(source.text), /\bprocess\s*(\.|\[\s*['"])\s*env\b/, source.file)
    }
    if (!source.file.startsWith('packages/redis/')) {
      t.notOk(source.imports.includes('ioredis'), `${source.file} imports ioredis`)
    }
  }
})

t.test('in the camera service, the modules behind the API import neither it nor the composition', async t => {
  const home = 'examples/camera-service/src'
  for (const source of sourcesOf(join(root, home))) {
    const folder = relative(home, source.file).split('/')[0]
    if (folder === undefined || !['mediamtx', 'cameras', 'media', 'library'].includes(folder)) continue
    for (const target of source.imports.filter(target => target.startsWith('.'))) {
      const reached = relative(join(root, home), resolve(dirname(join(root, source.file)), target))
      t.notMatch(reached, /^(api\/|[^/]+\.js$)/, `${source.file} imports ${target}`)
    }
    t.notOk(
      source.imports.some(target => target === 'fastify' && !/import type \{[^}]*\} from 'fastify'/.test(source.text)),
      `${source.file} imports at most types of Fastify`
    )
  }
})

function sourcesOf (folder: string): Source[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && entry.name.endsWith('.ts'))
    .map(entry => {
      const path = join(entry.parentPath, entry.name)
      const text = readFileSync(path, 'utf8')
      return { file: relative(root, path), text, imports: IMPORTS.flatMap(pattern => targetsOf(text, pattern)) }
    })
}

function targetsOf (text: string, pattern: RegExp): string[] {
  return [...code(text).matchAll(pattern)].map(([, target = '']) => target)
}

/** A source without its comments, so that examples in documentation do not count. */
function code (text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}

function martyImports (source: Source): string[] {
  return source.imports
    .filter(target => target.startsWith('@marty/'))
    .map(target => packageOf(target).slice('@marty/'.length))
}

/** Whether `@marty/redis/script` is in the `exports` of packages/redis. */
function isExported (target: string): boolean {
  const [, name = '', ...path] = target.split('/')
  const manifest = JSON.parse(readFileSync(join(root, 'packages', name, 'package.json'), 'utf8'))
  return Object.hasOwn(manifest.exports, `./${path.join('/')}`)
}

function packageOf (target: string): string {
  return target.split('/').slice(0, target.startsWith('@') ? 2 : 1).join('/')
}

function findRoot (from: string): string {
  return existsSync(join(from, 'package-lock.json')) ? from : findRoot(dirname(from))
}

/** The files of the same package that a compiled file imports. */
function localImports (home: string, file: string): string[] {
  const text = readFileSync(join(home, file), 'utf8')
  return [...text.matchAll(/^(?:import|export)\b[^'"]*['"](\.[^'"]+)['"]/gm)].map(([, target = '']) =>
    join(dirname(file), target)
  )
}

/** The first circle that is found, as the files it leads through; null when there is none. */
function circleIn (imports: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>()
  const path: string[] = []
  const walk = (file: string): string[] | null => {
    const at = path.indexOf(file)
    if (at !== -1) return [...path.slice(at), file]
    if (done.has(file)) return null
    path.push(file)
    for (const target of imports.get(file) ?? []) {
      const circle = walk(target)
      if (circle !== null) return circle
    }
    path.pop()
    done.add(file)
    return null
  }
  for (const file of imports.keys()) {
    const circle = walk(file)
    if (circle !== null) return circle
  }
  return null
}
