/** The files of an installed package on disk: their list, made once and compared later. Synchronous: it runs in the installing thread. */
import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Damage, FileEntry } from './install-protocol.ts';

/** Most files of one package. */
export const MAX_PACKAGE_FILES = 200_000;
const CHUNK_BYTES = 1024 ** 2;

/** Lists and hashes all files below a folder. Throws at anything that is neither file nor folder, and beyond the bounds. */
export function listFiles(root: string): FileEntry[] {
  const entries: FileEntry[] = [];
  const walk = (folder: string, prefix: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path, `${prefix}${entry.name}/`);
      else if (entry.isFile()) {
        const { size, mtimeMs, mode } = lstatSync(path);
        if (entries.push([`${prefix}${entry.name}`, size, mtimeMs, (mode & 0o111) !== 0, digestOf(path)]) > MAX_PACKAGE_FILES) throw new Error(`it has more than ${MAX_PACKAGE_FILES} files`);
      } else throw new Error(`"${prefix}${entry.name}" is neither file nor folder`);
    }
  };
  walk(root, '');
  return entries;
}

/** The list of a package in a store. */
export function readFileList(store: string, key: string): FileEntry[] {
  return JSON.parse(readFileSync(join(store, `${key}.files`), 'utf8')) as FileEntry[]; // written by installPackage and committed with it
}

/** What is wrong with a file, at the price of one lstat, or of reading it; undefined: nothing. */
export function fileProblem(root: string, [path, sizeBytes, mtimeMs, , digest]: FileEntry, digests: boolean): string | undefined {
  const file = join(root, path);
  try {
    const found = lstatSync(file);
    if (!found.isFile()) return `"${path}" is no file any more`;
    if (found.size !== sizeBytes) return `"${path}" has ${found.size} bytes instead of ${sizeBytes}`;
    if (!digests) return found.mtimeMs === mtimeMs ? undefined : `"${path}" was written to after it was installed`;
    return digestOf(file) === digest ? undefined : `"${path}" has another content than was installed`;
  } catch (error) {
    return `"${path}" cannot be read: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** The first thing that is wrong with a package; undefined: nothing. */
export function damageOf(store: string, key: string, digests: boolean): Damage | undefined {
  try {
    const root = join(store, key);
    for (const entry of readFileList(store, key)) {
      const problem = fileProblem(root, entry, digests);
      if (problem !== undefined) return { key, problem };
    }
    return undefined;
  } catch (error) {
    return { key, problem: `its list of files cannot be read: ${error instanceof Error ? error.message : String(error)}` };
  }
}

const chunk = Buffer.allocUnsafe(CHUNK_BYTES);

/** SHA-256 of a file in hex. */
export function digestOf(path: string, encoding: 'hex' | 'base64' = 'hex', algorithm = 'sha256'): string {
  const hash = createHash(algorithm);
  const fd = openSync(path, 'r');
  try {
    for (let count = readSync(fd, chunk, 0, CHUNK_BYTES, null); count > 0; count = readSync(fd, chunk, 0, CHUNK_BYTES, null)) hash.update(chunk.subarray(0, count));
  } finally {
    closeSync(fd);
  }
  return hash.digest(encoding);
}
