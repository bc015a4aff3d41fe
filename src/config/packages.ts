/**
 * Installs what a package-lock.json names, once per content of the lockfile: `npm ci` in a folder of a cache, without
 * development packages and without install scripts.
 */
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { copyFile, lstat, mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { MetronomeError } from '../core/errors.ts';
import { LOCKFILE } from './lockfile.ts';

const NPM_ARGUMENTS = ['ci', '--omit=dev', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
const MAX_NPM_OUTPUT_BYTES = 4 * 1024 * 1024;

/** How to install. */
export interface InstallOptions {
  /** Folder for installed packages, by digest of the lockfile; shared by all functions. @default a private folder under os.tmpdir() */
  readonly cacheDir?: string;
  /** Longest time npm may take, ms. @default 300000 */
  readonly installTimeoutMs?: number;
  /** The npm to run. @default 'npm' */
  readonly npm?: string;
}

/** The node_modules of a code folder, or undefined if it has no lockfile. PACKAGES_FAILED if npm fails. */
export async function installPackages(codeDir: string, options: InstallOptions = {}): Promise<string | undefined> {
  const lockfile = await readOptional(join(codeDir, LOCKFILE));
  if (lockfile === undefined) return undefined;
  const manifest = await readOptional(join(codeDir, 'package.json'));
  if (manifest === undefined) throw failed(codeDir, `there is a ${LOCKFILE} but no package.json`);
  // Some packages come in variants by platform, so the platform is part of the key.
  const digest = createHash('sha256').update(lockfile).update('\0').update(manifest).update(`\0${process.platform}-${process.arch}`).digest('hex').slice(0, 32);
  const cacheDir = options.cacheDir === undefined ? await privateCache() : resolve(options.cacheDir);
  const home = join(cacheDir, digest);
  const modules = join(home, 'node_modules');
  if (await exists(home)) return (await exists(modules)) ? modules : undefined;

  const work = join(cacheDir, `.work-${process.pid}-${randomUUID()}`);
  await mkdir(work, { recursive: true });
  try {
    await copyFile(join(codeDir, LOCKFILE), join(work, LOCKFILE));
    await copyFile(join(codeDir, 'package.json'), join(work, 'package.json'));
    await runNpm(codeDir, work, options);
    await rename(work, home).catch(async (error: NodeJS.ErrnoException) => {
      // Somebody else was faster with the same content.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return (await exists(modules)) ? modules : undefined;
}

async function runNpm(codeDir: string, cwd: string, options: InstallOptions): Promise<void> {
  const timeout = options.installTimeoutMs ?? 300_000;
  await new Promise<void>((done, fail) => {
    // npm and npx set npm_* for what they start; a project's own settings must not leak into this install.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_(package|lifecycle|config_local_prefix|command)/.test(name)));
    execFile(options.npm ?? 'npm', NPM_ARGUMENTS, { cwd, env, timeout, maxBuffer: MAX_NPM_OUTPUT_BYTES }, (error, stdout, stderr) => {
      if (error === null) return done();
      if (error.code === 'ENOENT') return fail(failed(codeDir, 'npm was not found; it must be on the PATH', error));
      if (error.killed === true) return fail(failed(codeDir, `npm took longer than ${timeout} ms`, error));
      fail(failed(codeDir, `npm ci failed: ${shorten(`${stderr}\n${stdout}`)}`, error));
    });
  });
}

/** The lines of npm that say something, at most five. */
function shorten(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.replace(/^npm (error|ERR!) ?/, '').trim())
    .filter((line) => line !== '' && !/^npm warn|complete log|A complete log|^code \w+$|debug-\d/i.test(line));
  return lines.slice(0, 5).join(' · ').slice(0, 600) || 'it said nothing';
}

/** A folder under the system's temporary one that nobody else can have prepared. */
async function privateCache(): Promise<string> {
  const uid = process.getuid?.() ?? 0;
  const path = join(tmpdir(), `metronome-packages-${uid}`);
  await mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const found = await lstat(path);
  if (!found.isDirectory() || (process.getuid !== undefined && (found.uid !== uid || (found.mode & 0o022) !== 0))) {
    throw new MetronomeError('PACKAGES_FAILED', `The package cache "${path}" belongs to somebody else or others may write to it; remove it or name another folder.`);
  }
  return path;
}

function failed(codeDir: string, problem: string, cause?: unknown): MetronomeError {
  return new MetronomeError('PACKAGES_FAILED', `The packages of "${codeDir}" cannot be installed: ${problem}.`, cause === undefined ? {} : { cause });
}

async function readOptional(path: string): Promise<Buffer | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, () => false);
}
