/** The built page for tests and benches: built when it is missing or older than its sources, and put into its place in one step, because others may be serving it. */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'vite';
import { PAGE_DIR } from '../src/gateway/page-files.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SOURCES = ['web', 'src/inspect/page-api.ts', 'src/core/reasons.ts', 'src/core/units.ts', 'package-lock.json'];

/** Its folder, with what the sources say in it. */
export async function builtPage(): Promise<string> {
  if (isFresh()) return PAGE_DIR;
  const made = join(ROOT, 'dist', `web-${process.pid}`);
  await build({ configFile: join(ROOT, 'web/vite.config.ts'), logLevel: 'error', build: { outDir: made } });
  const old = join(ROOT, 'dist', `web-${process.pid}-old`);
  if (existsSync(PAGE_DIR)) await rename(PAGE_DIR, old);
  try {
    await rename(made, PAGE_DIR);
  } catch (error) {
    // Another process was quicker; its page comes from the same sources.
    if (!isFresh()) throw error;
    await rm(made, { recursive: true, force: true });
  }
  await rm(old, { recursive: true, force: true });
  return PAGE_DIR;
}

/** Bytes of all its scripts, gzipped. */
export function scriptBytes(dir: string): number {
  const assets = join(dir, 'assets');
  return readdirSync(assets).filter((name) => name.endsWith('.js')).reduce((sum, name) => sum + gzipSync(readFileSync(join(assets, name))).byteLength, 0);
}

function isFresh(): boolean {
  const built = statSync(join(PAGE_DIR, 'index.html'), { throwIfNoEntry: false });
  return built !== undefined && SOURCES.every((source) => newest(join(ROOT, source)) <= built.mtimeMs);
}

function newest(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).reduce((latest, entry) => Math.max(latest, statSync(join(entry.parentPath, entry.name)).mtimeMs), 0);
}
