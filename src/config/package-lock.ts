/**
 * The contract of PackageLock: what may stand in it, its digest, and which packages of it belong on which platform. The CLI makes
 * locks (packages.ts), the scheduler checks them, agents install them.
 */
import { createHash } from 'node:crypto';
import type { Violation } from '../core/errors.ts';
import { importId } from '../core/zygote-distance.ts';
import type { LockedPackage, PackageLock } from '../rpc/gen/metronome/v1/function.ts';
import { packageNameProblem } from './bounds.ts';

/** Most packages of one lock. */
export const MAX_LOCKED_PACKAGES = 4_096;
/** Names of dependencies of all packages of one lock. */
const MAX_DEPENDENCIES = 65_536;
const MAX_VERSION = 128;
const MAX_PATH = 1_024;
const MAX_RESOLVED = 1_024;
const MAX_PLATFORMS = 32;
/** Most violations that are told; the rest would be noise. */
const MAX_VIOLATIONS = 20;

/** Bytes of the digests that may stand in an integrity. */
const DIGEST_BYTES: Readonly<Record<string, number>> = { sha512: 64, sha384: 48, sha256: 32, sha1: 20 };

/** Where something runs, in the words of package.json. */
export interface Platform {
  readonly os: string;
  readonly cpu: string;
  /** "glibc", "musl", or '' where there is no such choice. */
  readonly libc: string;
}

/** The id of a package, the same in every lock, on every node and for both runtimes: "name@version". */
export function packageId({ name, version }: Pick<LockedPackage, 'name' | 'version'>): string {
  return importId(name, version);
}

/** The lock in its one form: sorted, with its digest. Two locks that install the same have the same digest. */
export function sealLock(lock: PackageLock): PackageLock {
  const packages = [...lock.packages].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0)).map((one) => ({ ...one, dependencies: [...new Set(one.dependencies)].sort(), os: [...one.os], cpu: [...one.cpu], libc: [...one.libc] }));
  const hash = createHash('sha256').update(lock.runtime);
  for (const { name, version, integrity, path, direct, resolved, dependencies, optional, os, cpu, libc } of packages) hash.update(`\n${JSON.stringify([name, version, integrity, path, direct, resolved, dependencies, optional, os, cpu, libc])}`);
  return { digest: hash.digest('hex'), runtime: lock.runtime, packages };
}

/** All that is wrong with a lock for a function of this runtime, at most twenty; empty if it is valid. */
export function validatePackageLock(lock: PackageLock, runtime: string): Violation[] {
  const violations: Violation[] = [];
  const add = (field: string, description: string): void => {
    if (violations.length < MAX_VIOLATIONS) violations.push({ field, description });
  };
  if (lock.runtime !== runtime) add('lock.runtime', `must be the function's, "${runtime}", not ${JSON.stringify(lock.runtime.slice(0, 80))}`);
  if (lock.packages.length > MAX_LOCKED_PACKAGES) {
    add('lock.packages', `must be at most ${MAX_LOCKED_PACKAGES} packages, not ${lock.packages.length}`);
    return violations;
  }
  const paths = new Set<string>();
  let dependencies = 0;
  for (const [i, one] of lock.packages.entries()) {
    const field = `lock.packages[${i}]`;
    const problem = (name: string, description: string | undefined): void => {
      if (description !== undefined) add(`${field}.${name}`, description);
    };
    problem('name', packageNameProblem(one.name));
    problem('version', versionProblem(one.version));
    problem('integrity', integrityProblem(one.integrity, runtime));
    problem('path', runtime === 'python3' ? (one.path === one.name ? undefined : `must be the package's name "${one.name.slice(0, 80)}", not ${quote(one.path)}`) : pathProblem(one.path));
    if (paths.has(one.path)) add(`${field}.path`, `${quote(one.path)} is taken by another package`);
    paths.add(one.path);
    problem('resolved', resolvedProblem(one.resolved, runtime));
    if (one.os.length + one.cpu.length + one.libc.length > MAX_PLATFORMS || [...one.os, ...one.cpu, ...one.libc].some((word) => !/^!?[\w-]{1,32}$/.test(word))) add(field, 'has platforms that are none');
    dependencies += one.dependencies.length;
    if (one.dependencies.some((name) => packageNameProblem(name) !== undefined)) add(`${field}.dependencies`, 'has a name that is not the name of a package');
  }
  if (dependencies > MAX_DEPENDENCIES) add('lock.packages', `must have at most ${MAX_DEPENDENCIES} dependencies in all, not ${dependencies}`);
  return violations;
}

/** Whether a package is made for a platform; what names none is for all. */
export function isForPlatform({ os, cpu, libc }: Pick<LockedPackage, 'os' | 'cpu' | 'libc'>, platform: Platform): boolean {
  return allows(os, platform.os) && allows(cpu, platform.cpu) && (libc.length === 0 || (platform.libc !== '' && allows(libc, platform.libc)));
}

/** The platform of this process. */
export function platformHere(): Platform {
  return { os: process.platform, cpu: process.arch, libc: process.platform === 'linux' ? libcHere() : '' };
}

let libc: string | undefined;

function libcHere(): string {
  if (libc === undefined) {
    // The type of the report is any; the C library stands in its header when it is glibc.
    const { header } = process.report.getReport() as { readonly header: { readonly glibcVersionRuntime?: string } };
    libc = header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
  }
  return libc;
}

/** As in package.json: one of the names, and none that is forbidden by "!". */
function allows(words: readonly string[], value: string): boolean {
  if (words.length === 0) return true;
  if (words.includes(`!${value}`)) return false;
  return words.includes(value) || words.includes('any') || words.every((word) => word.startsWith('!'));
}

/** What is wrong with an exact version, or undefined. */
export function versionProblem(version: string): string | undefined {
  return version.length <= MAX_VERSION && /^[\w][\w.+!~-]*$/.test(version) ? undefined : `must be an exact version, not ${quote(version)}`;
}

/** What is wrong with an integrity, or undefined. */
export function integrityProblem(integrity: string, runtime: string): string | undefined {
  const [, algorithm = '', digest = ''] = /^(\w+)-([A-Za-z0-9+/]+=*)$/.exec(integrity) ?? [];
  if (runtime === 'python3' && algorithm !== 'sha256') return `must be "sha256-" and the digest in base64, not ${quote(integrity)}`;
  return Buffer.from(digest, 'base64').length === DIGEST_BYTES[algorithm] ? undefined : `must be an algorithm and a digest such as "sha512-…", not ${quote(integrity)}`;
}

/** "node_modules/a/node_modules/@b/c": nothing else, so that nothing is ever installed outside of its tree. */
function pathProblem(path: string): string | undefined {
  const [first, ...names] = path.split(/(?:^|\/)node_modules\//);
  const fits = path.startsWith('node_modules/') && first === '' && names.length > 0 && path.length <= MAX_PATH && names.every((name) => packageNameProblem(name) === undefined && name !== '.' && name !== '..');
  return fits ? undefined : `must be a place such as "node_modules/a/node_modules/b", not ${quote(path)}`;
}

/**
 * What npm takes for repositories, and which of their addresses it takes for archives all the same. A repository would be cloned and
 * built where it is installed.
 */
const REPOSITORIES: Readonly<Record<string, RegExp>> = {
  'github.com': /^\/[^/]+\/[^/]+\/(?:archive|raw|releases)\//,
  'gist.github.com': /^\/[^/]+\/[^/]+\/raw\//,
  'gitlab.com': /\/-\//,
  'bitbucket.org': /^\/[^/]+\/[^/]+\/get\//,
  'git.sr.ht': /^\/[^/]+\/[^/]+\/archive\//,
};

/**
 * What is wrong with a source that is not the registry, or undefined. Only archives are allowed, which can be unpacked without running
 * anything of theirs. The scheduler asks before it believes a lock, and the agent before it installs.
 */
export function resolvedProblem(resolved: string, runtime: string): string | undefined {
  if (resolved === '') return undefined;
  if (resolved.length > MAX_RESOLVED) return `must be at most ${MAX_RESOLVED} characters`;
  const archive = runtime === 'python3' ? /\.whl$/ : /\.(?:tgz|tar\.gz|tar)$/;
  const kind = runtime === 'python3' ? 'a wheel (.whl); anything else would have to be built' : 'an archive (.tgz); a folder would have to be built';
  if (resolved.startsWith('file:')) {
    const path = resolved.slice('file:'.length);
    if (path === '' || /[\\\p{Cc}]|^\//u.test(path) || path.split('/').some((part) => part === '..' || part === '.' || part === '')) return `must be a file of the bundle such as "file:lib/a.tgz", not ${quote(resolved)}`;
    return archive.test(path) ? undefined : `must be ${kind}, not ${quote(resolved)}`;
  }
  if (!/^https?:\/\//.test(resolved) || !URL.canParse(resolved)) return `must be "file:<path in the bundle>" or an http(s) address, not ${quote(resolved)}`;
  const { username, password, hostname, pathname } = new URL(resolved);
  // Not shown: it is a secret.
  if (username + password !== '') return 'must not carry a user or a password; put them into the npm or pip configuration of the nodes';
  // URL would strip line ends, which begin another requirement for pip, and pip fills in ${VARIABLES}.
  if (!/^[!-~]+$/.test(resolved) || /["<>\\^`{|}]/.test(resolved)) return `must be an address without blanks, control characters and quotes, not ${quote(resolved)}`;
  if (runtime === 'python3') return archive.test(pathname) ? undefined : `must be ${kind}, not ${quote(resolved)}`;
  const archives = REPOSITORIES[hostname.replace(/^www\./, '')];
  return archives === undefined || archives.test(pathname) ? undefined : `must be an archive; ${quote(resolved)} is a repository for npm, which would have to be built`;
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}
