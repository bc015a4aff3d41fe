/** What a package-lock.json says, as a PackageLock: the tree of packages without development ones. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { MetronomeError, type Violation } from '../core/errors.ts';
import type { LockedPackage, PackageLock } from '../rpc/gen/metronome/v1/function.ts';
import { integrityProblem, isForPlatform, MAX_LOCKED_PACKAGES, platformHere, resolvedProblem, sealLock, validatePackageLock } from './package-lock.ts';

/** Name of the lockfile in a code folder. */
export const LOCKFILE = 'package-lock.json';

const MAX_LOCKFILE_BYTES = 16 * 1024 ** 2;

const names = z.record(z.string(), z.string()).optional();
/** npm writes a word alone where there is only one. */
const words = z.union([z.string().transform((word) => [word]), z.array(z.string())]).optional();

const entrySchema = z.object({
  name: z.string().optional(),
  version: z.string().optional(),
  resolved: z.union([z.string(), z.boolean()]).optional(),
  integrity: z.string().optional(),
  dev: z.boolean().optional(),
  optional: z.boolean().optional(),
  devOptional: z.boolean().optional(),
  link: z.boolean().optional(),
  inBundle: z.boolean().optional(),
  extraneous: z.boolean().optional(),
  dependencies: names,
  optionalDependencies: names,
  peerDependencies: names,
  os: words,
  cpu: words,
  libc: words,
});

const lockfileSchema = z.object({ lockfileVersion: z.number().min(2), packages: z.record(z.string(), entrySchema) });
type Entry = z.output<typeof entrySchema>;

/** The lock of a code folder; undefined where there is no lockfile. MANIFEST_INVALID names the file and the package. */
export async function readLockfile(codeDir: string): Promise<PackageLock | undefined> {
  const path = join(codeDir, LOCKFILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch {
    // No lockfile, or no such folder, which is reported elsewhere.
    return undefined;
  }
  return parseLockfile(text, path);
}

/** Reads the text of a package-lock.json; `path` is its name in messages. */
export function parseLockfile(text: string, path: string): PackageLock {
  let parsed: z.output<typeof lockfileSchema>;
  try {
    if (text.length > MAX_LOCKFILE_BYTES) throw new Error('too large');
    parsed = lockfileSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw invalid(path, [{ field: path, description: `${LOCKFILE} is not a lockfile of npm 7 or later; make it again with "npm install --package-lock-only"` }], cause);
  }
  const violations: Violation[] = [];
  const root = parsed.packages[''];
  const direct = new Set([...namesIn(root?.dependencies), ...namesIn(root?.optionalDependencies), ...namesIn(root?.peerDependencies)]);
  const packages: LockedPackage[] = [];
  for (const [place, entry] of Object.entries(parsed.packages)) {
    // What a package brings in its own archive needs no place of its own.
    if (place === '' || entry.dev === true || entry.inBundle === true || entry.extraneous === true) continue;
    const name = entry.name ?? place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const problem = entryProblem(place, entry);
    if (problem !== undefined) {
      violations.push({ field: `${path} ${place}`, description: problem });
      continue;
    }
    const { version = '', integrity = '' } = entry;
    packages.push({
      name, version, integrity: strongest(integrity), path: place,
      direct: place.startsWith('node_modules/') && direct.has(place.slice('node_modules/'.length)),
      resolved: sourceOf(name, version, entry.resolved),
      dependencies: [...namesIn(entry.dependencies), ...namesIn(entry.optionalDependencies), ...namesIn(entry.peerDependencies)],
      unpackedBytes: 0,
      optional: entry.optional === true || entry.devOptional === true,
      os: entry.os ?? [], cpu: entry.cpu ?? [], libc: entry.libc ?? [],
    });
  }
  if (packages.length > MAX_LOCKED_PACKAGES) violations.push({ field: path, description: `names ${packages.length} packages, more than ${MAX_LOCKED_PACKAGES}` });
  if (violations.length > 0) throw invalid(path, violations);
  const lock = sealLock({ digest: '', runtime: 'node', packages });
  const problems = validatePackageLock(lock, 'node');
  if (problems.length > 0) throw invalid(path, problems.map(({ field, description }) => ({ field: `${path} ${lock.packages[Number(/\[(\d+)\]/.exec(field)?.[1])]?.path ?? field}`, description })));
  return lock;
}

/** How many packages of a lock this platform gets: the paper's dependency count. */
export function countPackages(lock: PackageLock): number {
  const here = platformHere();
  return lock.packages.filter((one) => !one.optional || isForPlatform(one, here)).length;
}

/** What is wrong with one entry beyond the contract, in the words of npm. */
function entryProblem(place: string, { version, integrity, link, resolved }: Entry): string | undefined {
  if (!place.startsWith('node_modules/')) return 'is a folder of this project (a workspace or "file:" folder); pack it with "npm pack" and depend on the archive, or copy its files into the code';
  if (link === true) return 'is a link to a folder; pack it with "npm pack" and depend on the archive, or copy its files into the code';
  if (typeof resolved === 'string' && /^git\b|^git[+:]|^ssh:/.test(resolved)) return 'comes from git, which is not supported: it could only be built where it is installed. Depend on a published version or on an archive';
  if (version === undefined) return 'has no version';
  if (integrity === undefined || integrityProblem(strongest(integrity), 'node') !== undefined) return 'has no integrity, so that what a node fetches could not be checked; delete the lockfile and node_modules, and make the lockfile again with "npm install --package-lock-only"';
  return undefined;
}

/** '' when the registry of a node has it under the usual address, whatever that registry is. */
function sourceOf(name: string, version: string, resolved: string | boolean | undefined): string {
  if (typeof resolved !== 'string') return '';
  if (resolved.startsWith('file:')) return `file:${resolved.slice('file:'.length).replace(/^\.\//, '')}`;
  if (resolvedProblem(resolved, 'node') === undefined && new URL(resolved).pathname.endsWith(tarballPath(name, version))) return '';
  return resolved;
}

/** The usual place of an archive below the address of a registry. */
export function tarballPath(name: string, version: string): string {
  return `/${name}/-/${name.slice(name.indexOf('/') + 1)}-${version.split('+', 1)[0]}.tgz`;
}

/** Of several digests the one that is hardest to forge. */
function strongest(integrity: string): string {
  const all = integrity.split(/\s+/).map((one) => one.replace(/\?.*$/, ''));
  for (const algorithm of ['sha512-', 'sha384-', 'sha256-', 'sha1-']) {
    const found = all.find((one) => one.startsWith(algorithm));
    if (found !== undefined) return found;
  }
  return integrity;
}

function namesIn(map: Readonly<Record<string, string>> | undefined): string[] {
  return Object.keys(map ?? {});
}

function invalid(path: string, violations: readonly Violation[], cause?: unknown): MetronomeError {
  return new MetronomeError('MANIFEST_INVALID', `The lockfile ${path} cannot be used: ${violations.slice(0, 5).map(({ field, description }) => `${field === path ? '' : `${field.replace(`${path} `, '')} `}${description}`).join('; ')}${violations.length > 5 ? `; and ${violations.length - 5} more` : ''}.`, { violations, ...(cause === undefined ? {} : { cause }) });
}
