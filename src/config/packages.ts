/**
 * Resolves the packages of a function when it is applied, so that no cold start ever has to: npm or pip say which versions, what
 * comes out is a PackageLock. Nothing is installed or built here.
 *
 * Node: package-lock.json of the code folder as it stands; without one, what npm makes of the manifest's `packages`, remembered by
 * content. Python: requirements.txt and the manifest's `packages`, from the folder `wheels` of the code folder if there is one, else
 * from where pip is configured to look.
 */
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { lstat, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { MetronomeError } from '../core/errors.ts';
import type { FunctionSpec, LockedPackage, PackageLock } from '../rpc/gen/metronome/v1/function.ts';
import { LOCKFILE, parseLockfile, readLockfile } from './lockfile.ts';
import { resolvedProblem, sealLock, validatePackageLock } from './package-lock.ts';
import { PIP, WOULD_BUILD } from './pip.ts';

/** Requirements of a Python function, in its code folder. */
export const REQUIREMENTS = 'requirements.txt';
/** Folder of wheels in a code folder; the ones that are locked go into the bundle. */
export const WHEELS = 'wheels';

// No git: npm may build what it clones, and such a package could not be locked anyway.
const NPM_ARGUMENTS = ['install', '--package-lock-only', '--ignore-scripts', '--omit=dev', '--allow-git=none', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
// No version check: pip would ask the index for itself. Only wheels: anything else would have to be built, which runs its code.
const PIP_ARGUMENTS = [...PIP, 'install', '--dry-run', '--ignore-installed', '--only-binary=:all:', '--no-input', '--quiet', '--disable-pip-version-check'];
/** How long npm's answer to the same question is remembered. */
const REMEMBER_MS = 24 * 3_600_000;
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
const MAX_REPORT_BYTES = 64 * 1024 * 1024;

/** How to resolve. */
export interface ResolveOptions {
  /** Folder in which lockfiles are remembered by content; shared by all functions. @default a private folder under os.tmpdir() */
  readonly cacheDir?: string;
  /** The time, ms since 1970: what npm said more than a day before is asked again. @default what was remembered holds for ever */
  readonly nowMs?: number;
  /** Longest time npm or pip may take, ms. @default 300000 */
  readonly timeoutMs?: number;
  /** The npm to run. @default 'npm' */
  readonly npm?: string;
  /** The Python whose pip is run. @default 'python3' */
  readonly python?: string;
  /** Told before npm or pip is run. */
  readonly onRun?: (program: 'npm' | 'pip') => void;
}

/** The packages of a function. */
export interface ResolvedPackages {
  /** Undefined: it has none. */
  readonly lock: PackageLock | undefined;
  /** Files that the bundle must carry for the lock: their names in the bundle and where they are. */
  readonly files: readonly { readonly name: string; readonly path: string }[];
}

/** What is resolved: the folder with the code, and what the manifest says. */
export type PackageSource = { readonly codeDir: string } & Pick<FunctionSpec, 'runtime' | 'packages'>;

/** Resolves. PACKAGES_FAILED when npm or pip cannot, MANIFEST_INVALID for a lockfile that cannot be used. */
export async function resolvePackages(source: PackageSource, options: ResolveOptions = {}): Promise<ResolvedPackages> {
  return source.runtime === 'python3' ? resolvePython(source, options) : resolveNode(source, options);
}

// ── Node ────────────────────────────────────────────────────────────────────────────────────────────────────────

async function resolveNode(source: PackageSource, options: ResolveOptions): Promise<ResolvedPackages> {
  const { codeDir, packages } = source;
  const lock = (await readLockfile(codeDir)) ?? (Object.keys(packages).length > 0 ? await lockWithNpm(codeDir, packages, options) : undefined);
  if (lock === undefined) return { lock: undefined, files: [] };
  const direct = new Set(lock.packages.filter((one) => one.direct).map(({ path }) => path));
  for (const name of Object.keys(packages)) {
    if (!direct.has(`node_modules/${name}`)) throw failed(codeDir, `the manifest names "${name}", but ${LOCKFILE} does not have it as a dependency; run "npm install --package-lock-only ${name}" in the code folder`);
  }
  for (const { resolved, path } of lock.packages) {
    if (!resolved.startsWith('file:')) continue;
    const file = resolved.slice('file:'.length);
    if (!(await isFile(join(codeDir, file)))) throw failed(codeDir, `${LOCKFILE} has "${path}" from the file "${file}", which is not in the code folder`);
  }
  return { lock: lock.packages.length === 0 ? undefined : lock, files: [] };
}

/** The lock that npm makes of names and ranges; the same ranges give the same lock for a day. */
async function lockWithNpm(codeDir: string, packages: Readonly<Record<string, string>>, options: ResolveOptions): Promise<PackageLock> {
  const sorted = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
  const npmrc = await readOptional(join(codeDir, '.npmrc'));
  // Another registry may have other packages under the same names.
  const userconfig = process.env['npm_config_userconfig'] ?? process.env['NPM_CONFIG_USERCONFIG'] ?? join(homedir(), '.npmrc');
  const settings = [npmrc ?? '', (await readOptional(userconfig)) ?? '', process.env['npm_config_registry'] ?? process.env['NPM_CONFIG_REGISTRY'] ?? ''];
  const hash = createHash('sha256').update(JSON.stringify(sorted));
  for (const part of settings) hash.update('\0').update(part);
  const digest = hash.digest('hex').slice(0, 32);
  const cacheDir = options.cacheDir === undefined ? await privateCache() : resolve(options.cacheDir);
  const remembered = join(cacheDir, `${digest}.json`);
  const known = (await stat(remembered).then(({ mtimeMs }) => (options.nowMs ?? mtimeMs) - mtimeMs < REMEMBER_MS, () => false)) ? await readOptional(remembered) : undefined;
  if (known !== undefined) return parseLockfile(known.toString('utf8'), remembered);

  const work = join(cacheDir, `.work-${process.pid}-${randomUUID()}`);
  await mkdir(work, { recursive: true });
  try {
    await writeFile(join(work, 'package.json'), JSON.stringify({ name: 'function', version: '0.0.0', private: true, dependencies: sorted }));
    if (npmrc !== undefined) await writeFile(join(work, '.npmrc'), npmrc, { mode: 0o600 });
    options.onRun?.('npm');
    // npm and npx set npm_* for what they start; a project's own settings must not leak into this.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_(package|lifecycle|config_local_prefix|command)/.test(name)));
    await run(options.npm ?? 'npm', NPM_ARGUMENTS, { cwd: work, env, timeoutMs: options.timeoutMs }, (problem, cause) => failed(codeDir, problem, cause));
    const text = await readFile(join(work, LOCKFILE), 'utf8').catch((error: unknown) => {
      throw failed(codeDir, `npm made no ${LOCKFILE}`, error);
    });
    const lock = parseLockfile(text, `made from the packages of "${codeDir}"`);
    await writeFile(join(work, 'done'), text);
    await rename(join(work, 'done'), remembered);
    return lock;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

// ── Python ──────────────────────────────────────────────────────────────────────────────────────────────────────

const reportSchema = z.object({
  install: z.array(z.object({
    download_info: z.object({ url: z.string(), archive_info: z.object({ hash: z.string().optional(), hashes: z.record(z.string(), z.string()).optional() }).optional() }),
    is_direct: z.boolean().optional(),
    requested: z.boolean().optional(),
    metadata: z.object({ name: z.string(), version: z.string(), requires_dist: z.array(z.string()).optional() }),
  })),
});
type ReportedWheel = z.output<typeof reportSchema>['install'][number];

async function resolvePython({ codeDir, packages }: PackageSource, options: ResolveOptions): Promise<ResolvedPackages> {
  const requirements = join(codeDir, REQUIREMENTS);
  const wanted = Object.entries(packages).map(([name, version]) => `${name}${requirementVersion(version)}`);
  const hasFile = await isFile(requirements);
  if (!hasFile && wanted.length === 0) return { lock: undefined, files: [] };
  const wheels = join(codeDir, WHEELS);
  const hasWheels = await stat(wheels).then((found) => found.isDirectory(), () => false);
  const work = await mkdtemp(join(tmpdir(), 'metronome-pip-'));
  let report: z.output<typeof reportSchema>;
  try {
    const path = join(work, 'report.json');
    // Paths in requirements.txt count from the code folder.
    const args = [...PIP_ARGUMENTS, '--report', path, ...(hasWheels ? ['--no-index', '--find-links', resolve(wheels)] : []), ...(hasFile ? ['-r', REQUIREMENTS] : []), ...wanted];
    options.onRun?.('pip');
    const lines = hasFile ? (await readFile(requirements, 'utf8')).split('\n').map((line) => line.trim()) : [];
    await run(options.python ?? 'python3', args, { cwd: codeDir, env: process.env, timeoutMs: options.timeoutMs }, (problem, cause) => failed(codeDir, pipProblem(problem, lines), cause));
    const { size } = await stat(path);
    if (size > MAX_REPORT_BYTES) throw new Error(`pip reported ${size} bytes`);
    report = reportSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    throw error instanceof MetronomeError ? error : failed(codeDir, `the report of pip cannot be read; pip 22.2 or later is needed`, error);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  const files: { name: string; path: string }[] = [];
  const known = new Set(report.install.map(({ metadata }) => projectName(metadata.name)));
  const locked = report.install.map((one) => lockWheel(codeDir, one, known, files));
  if (locked.length === 0) return { lock: undefined, files: [] };
  const lock = sealLock({ digest: '', runtime: 'python3', packages: locked });
  const [problem] = validatePackageLock(lock, 'python3');
  if (problem !== undefined) throw failed(codeDir, `${lock.packages[Number(/\[(\d+)\]/.exec(problem.field)?.[1])]?.name ?? problem.field} ${problem.description}`);
  return { lock, files };
}

function pipProblem(said: string, lines: readonly string[]): string {
  if (!said.includes(WOULD_BUILD)) return /No module named '?pip/.test(said) ? 'pip is missing; on Debian: apt-get install -y python3-pip' : said;
  // pip does not say which. Most likely a line that names a place instead of a project.
  const line = lines.find((one) => /^(?:-e|--editable|--no-binary)\b|^[^#]*\//.test(one) && !/^--?\w[\w-]*-url|\.whl(?:[\s#;]|$)/.test(one));
  const what = line === undefined ? 'something that its requirements need' : JSON.stringify(line.replaceAll(/\/\/[^/@\s]+@/g, '//').slice(0, 120));
  return `${what} is no wheel but a folder, a repository or a source archive, which would have to be built where it is installed. Build the wheel yourself and put it into the folder "${WHEELS}"`;
}

function lockWheel(codeDir: string, { download_info: { url, archive_info: archive }, is_direct: isDirect, requested, metadata }: ReportedWheel, known: ReadonlySet<string>, files: { name: string; path: string }[]): LockedPackage {
  const name = projectName(metadata.name);
  const address = url.split('#', 1)[0] ?? '';
  const sha256 = archive?.hashes?.['sha256'] ?? /^sha256=([0-9a-f]{64})$/.exec(archive?.hash ?? '')?.[1];
  if (!address.endsWith('.whl')) throw failed(codeDir, `"${metadata.name}" is no wheel (${basename(address)}); it could only be built where it is installed`);
  if (sha256 === undefined) throw failed(codeDir, `pip told no sha256 of "${metadata.name}"`);
  let resolved = '';
  if (address.startsWith('file:')) {
    const path = fileURLToPath(address);
    const inBundle = `${WHEELS}/${basename(path)}`;
    files.push({ name: inBundle, path });
    resolved = `file:${inBundle}`;
  } else if (isDirect === true) {
    resolved = address;
    const problem = resolvedProblem(resolved, 'python3');
    if (problem !== undefined) throw failed(codeDir, `the address of "${metadata.name}" ${problem}`);
  }
  const dependencies = (metadata.requires_dist ?? []).map((requirement) => projectName(/^[\w.-]+/.exec(requirement.trim())?.[0] ?? '')).filter((dependency) => known.has(dependency) && dependency !== name);
  return {
    name, version: metadata.version, integrity: `sha256-${Buffer.from(sha256, 'hex').toString('base64')}`, path: name, direct: requested === true, resolved, dependencies,
    unpackedBytes: 0, optional: false, os: [], cpu: [], libc: [],
  };
}

/** The one form of a project's name (PEP 503). */
export function projectName(name: string): string {
  return name.toLowerCase().replaceAll(/[-_.]+/g, '-');
}

/** "*" → '', "2.0" → "==2.0", ">=2,<3" as it is. */
function requirementVersion(version: string): string {
  if (version === '*' || version === '') return '';
  return /^[=<>~!]/.test(version) ? version : `==${version}`;
}

// ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────

interface RunOptions {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly timeoutMs: number | undefined;
}

async function run(program: string, args: readonly string[], { cwd, env, timeoutMs = 300_000 }: RunOptions, fail: (problem: string, cause: unknown) => MetronomeError): Promise<void> {
  const name = basename(program).replace(/\.m?js$/, '');
  await new Promise<void>((done, reject) => {
    execFile(program, args, { cwd, env, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: MAX_OUTPUT_BYTES }, (error, stdout, stderr) => {
      if (error === null) done();
      else if (error.code === 'ENOENT') reject(fail(`${name} was not found; it must be on the PATH`, error));
      else if (error.killed === true) reject(fail(`${name} took longer than ${timeoutMs} ms`, error));
      else reject(fail(shorten(`${stderr}\n${stdout}`), error));
    });
  });
}

/** The lines of npm or pip that say something, at most five, without what might be a secret. */
function shorten(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.replace(/^npm (error|ERR!) ?|^ERROR: ?/, '').replaceAll(/\/\/[^/@\s]+@/g, '//').trim())
    .filter((line) => line !== '' && !/^npm warn|^WARNING|complete log|^code \w+$|debug-\d|^\[notice\]/i.test(line));
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
  return new MetronomeError('PACKAGES_FAILED', `The packages of "${codeDir}" cannot be resolved: ${problem.replace(/\.$/, '')}.`, cause === undefined ? {} : { cause });
}

async function readOptional(path: string): Promise<Buffer | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then((found) => found.isFile(), () => false);
}
