/** Layers of small packages, made in a folder as an installation would leave them. */
import { chmod, mkdir, mkdtemp, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { LayerPackage, PackageLayer } from '../../src/agent/program.ts';

/** Files of one package by path; `isDirect` false: only others need it. */
export interface TestPackage {
  readonly files: Readonly<Record<string, string>>;
  readonly isDirect?: boolean;
  /** @default the name */
  readonly subtree?: string;
}

async function write(dir: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
}

/** A layer with node_modules, or with one folder for sys.path. */
export async function makeLayer(root: string, runtime: 'node' | 'python3', digest: string, packages: Readonly<Record<string, TestPackage>>): Promise<PackageLayer> {
  const dir = await mkdtemp(join(root, 'layer-'));
  await chmod(dir, 0o755);
  const described: LayerPackage[] = [];
  for (const [name, { files, isDirect = true, subtree = name }] of Object.entries(packages)) {
    const packageDir = runtime === 'node' ? join(dir, 'node_modules', name) : dir;
    await write(packageDir, files);
    described.push({ id: `${name}@1.0.0`, name, version: '1.0.0', dir: packageDir, isDirect, subtree });
  }
  return { digest, runtime, dir, importPaths: runtime === 'node' ? [] : [dir], packages: described };
}

/** The code of a function, with the link to its packages that a program has. */
export async function makeBundle(root: string, files: Readonly<Record<string, string>>, layer?: PackageLayer): Promise<string> {
  const dir = await mkdtemp(join(root, 'bundle-'));
  await write(dir, files);
  if (layer?.runtime === 'node') await symlink(join(layer.dir, 'node_modules'), join(dir, 'node_modules'));
  return dir;
}

/** Packages that count, in the process, how often each of their modules was evaluated. */
const counted = (name: string, assign: string): string => `const counts = (globalThis.evaluated ??= {}); counts['${name}'] = (counts['${name}'] ?? 0) + 1;\n${assign}`;

export const NODE_PACKAGES = {
  common: { files: { 'package.json': '{"name":"common","main":"index.js"}', 'index.js': counted('common', "exports.name = 'common'; exports.deep = require('deep');") } },
  deep: { isDirect: false, files: { 'package.json': '{"name":"deep"}', 'index.js': counted('deep', "module.exports = 'deep';") } },
  modern: { files: { 'package.json': '{"name":"modern","type":"module","exports":"./index.js"}', 'index.js': counted('modern', "export const name = 'modern';") } },
  '@scope/dual': {
    files: {
      'package.json': '{"name":"@scope/dual","exports":{"import":"./index.mjs","require":"./index.cjs"}}',
      'index.mjs': counted('dual-import', "export const name = 'dual';"), 'index.cjs': counted('dual-require', "exports.name = 'dual';"),
    },
  },
  broken: { files: { 'package.json': '{"name":"broken"}', 'index.js': "throw new Error('cannot be imported here');" } },
} satisfies Record<string, TestPackage>;
