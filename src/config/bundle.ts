/**
 * Packs the code of a function: a gzipped tar that is the same for the same files on every machine (sorted, no times, no owners,
 * only regular files). Packages are not in it: nodes install them from the lock (packages.ts).
 */
import { open, readdir, realpath, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { createGzip } from 'node:zlib';
import { Header, Pax } from 'tar';
import { MetronomeError } from '../core/errors.ts';
import { formatBytes } from '../core/units.ts';

/** Largest bundle, as in ApplyFunctionRequest. */
export const MAX_BUNDLE_BYTES = 32 * 1024 * 1024;
const MAX_UNPACKED_BYTES = 512 * 1024 * 1024;
const MAX_FILES = 20_000;
const MAX_DEPTH = 64;
const BLOCK = 512;

/** Left out wherever they are. */
const EXCLUDED_ANYWHERE: ReadonlySet<string> = new Set(['node_modules', '.git', '__pycache__', '.DS_Store']);
/** Left out at the top: data to try a function with, Metronome's own state, npm's settings (they may hold a token). */
const EXCLUDED_AT_TOP: ReadonlySet<string> = new Set(['data', '.metronome', '.npmrc']);

/** How to pack. */
export interface PackOptions {
  /** Further files by their names in the bundle (ResolvedPackages.files). @default none */
  readonly files?: readonly { readonly name: string; readonly path: string }[];
  /** Largest size of the bundle in bytes. @default 32 MiB */
  readonly maxBytes?: number;
}

interface PackedFile {
  /** Path in the bundle, with forward slashes. */
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly isExecutable: boolean;
}

/**
 * The bundle of a code folder. MANIFEST_INVALID if it is too large (names the largest files), has a link that leads outside or a file that
 * is none.
 */
export async function packFunction(codeDir: string, options: PackOptions = {}): Promise<Uint8Array> {
  // Where files are named, they are all that comes of their folder: of many wheels only the locked ones.
  const named = new Set((options.files ?? []).map(({ name }) => name.split('/', 1)[0] ?? ''));
  const files = await collect(codeDir, EXCLUDED_ANYWHERE, new Set([...EXCLUDED_AT_TOP, ...named]));
  for (const { name, path } of options.files ?? []) files.push({ name, path, sizeBytes: (await stat(path)).size, isExecutable: false });
  if (files.length > MAX_FILES) throw invalid(codeDir, `has ${files.length} files, more than ${MAX_FILES}`);
  files.sort((a, b) => (a.name < b.name ? -1 : 1));
  const maxBytes = options.maxBytes ?? MAX_BUNDLE_BYTES;
  const unpackedBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  if (unpackedBytes > MAX_UNPACKED_BYTES) throw tooLarge(codeDir, `${formatBytes(unpackedBytes)} unpacked`, MAX_UNPACKED_BYTES, files);

  const gzip = createGzip({ level: 6 });
  const chunks: Buffer[] = [];
  let packedBytes = 0;
  const collected = (async () => {
    for await (const chunk of gzip as AsyncIterable<Buffer>) {
      packedBytes += chunk.length;
      if (packedBytes > maxBytes) throw tooLarge(codeDir, `more than ${formatBytes(maxBytes)} packed`, maxBytes, files);
      chunks.push(chunk);
    }
  })();
  const written = writeTar(files, gzip, codeDir).catch((error: unknown) => {
    gzip.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  });
  const [readEnd, writeEnd] = await Promise.allSettled([collected, written]);
  // What the reader found out (too large) also breaks the writer; it comes first. A writer's own error reaches the reader through destroy.
  if (readEnd.status === 'rejected') throw readEnd.reason;
  if (writeEnd.status === 'rejected') throw writeEnd.reason;
  const bundle = Buffer.concat(chunks);
  bundle[9] = 255; // the operating system in gzip's header: unknown, so that the bytes do not depend on it
  return bundle;
}

async function writeTar(files: readonly PackedFile[], gzip: ReturnType<typeof createGzip>, codeDir: string): Promise<void> {
  const put = async (bytes: Buffer): Promise<void> => {
    if (gzip.destroyed) throw new Error('the bundle is not wanted any more');
    if (!gzip.write(bytes)) await new Promise<void>((done) => {
      const settled = (): void => {
        gzip.off('drain', settled).off('close', settled);
        done();
      };
      gzip.on('drain', settled).on('close', settled);
    });
  };
  for (const file of files) {
    const header = new Header({ path: file.name, mode: file.isExecutable ? 0o755 : 0o644, size: file.sizeBytes, type: 'File' });
    if (header.encode()) await put(new Pax({ path: file.name, size: file.sizeBytes }).encode());
    if (header.block === undefined) throw new MetronomeError('INTERNAL', `tar made no header for ${file.name}`);
    await put(header.block);
    const handle = await open(file.path, 'r');
    try {
      let copied = 0;
      while (copied < file.sizeBytes) {
        const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(Math.min(256 * 1024, file.sizeBytes - copied)));
        if (bytesRead === 0) throw invalid(codeDir, `changed while it was packed: ${file.name}`);
        copied += bytesRead;
        await put(buffer.subarray(0, bytesRead));
      }
    } finally {
      await handle.close();
    }
    const rest = file.sizeBytes % BLOCK;
    if (rest > 0) await put(Buffer.alloc(BLOCK - rest));
  }
  await put(Buffer.alloc(2 * BLOCK));
  gzip.end();
}

/** The regular files below a folder; links are followed as long as they stay inside. */
async function collect(root: string, excluded: ReadonlySet<string>, excludedAtTop: ReadonlySet<string>): Promise<PackedFile[]> {
  let realRoot: string;
  try {
    realRoot = await realpath(root);
    if (!(await stat(realRoot)).isDirectory()) throw new Error('it is not a folder');
  } catch (error) {
    throw invalid(root, `cannot be read: ${error instanceof Error ? error.message : String(error)}`, error);
  }
  const files: PackedFile[] = [];
  const walk = async (folder: string, inBundle: string, above: readonly string[]): Promise<void> => {
    if (above.length > MAX_DEPTH) throw invalid(root, `has folders deeper than ${MAX_DEPTH}: ${inBundle.slice(0, 80)}…`);
    for (const name of (await readdir(folder)).sort()) {
      if (excluded.has(name) || (above.length === 0 && excludedAtTop.has(name))) continue;
      const path = join(folder, name);
      const real = await realpath(path).catch((error: unknown) => {
        throw invalid(root, `has a link that leads nowhere: ${inBundle}${name}`, error);
      });
      if (isOutside(realRoot, real)) throw invalid(root, `has a link that leads outside the code folder: ${inBundle}${name}`);
      const found = await stat(real);
      if (found.isDirectory()) {
        if (real === realRoot || above.includes(real)) throw invalid(root, `has a link to a folder above it: ${inBundle}${name}`);
        await walk(real, `${inBundle}${name}/`, [...above, real]);
      } else if (found.isFile()) {
        if (files.length >= MAX_FILES) throw invalid(root, `has more than ${MAX_FILES} files`);
        files.push({ name: `${inBundle}${name}`, path: real, sizeBytes: found.size, isExecutable: (found.mode & 0o100) !== 0 });
      } else {
        throw invalid(root, `has something that is neither file nor folder: ${inBundle}${name}`);
      }
    }
  };
  await walk(realRoot, '', []);
  return files;
}

function isOutside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way === '..' || way.startsWith(`..${sep}`) || way.startsWith(sep);
}

function tooLarge(codeDir: string, what: string, limit: number, files: readonly PackedFile[]): MetronomeError {
  const largest = [...files].sort((a, b) => b.sizeBytes - a.sizeBytes).slice(0, 5).map((file) => `${file.name} (${formatBytes(file.sizeBytes)})`);
  return invalid(codeDir, `is too large for a bundle: ${what}, at most ${formatBytes(limit)}. Largest files: ${largest.join(', ')}. Leave out what the function does not need; pass data as input objects`);
}

function invalid(codeDir: string, problem: string, cause?: unknown): MetronomeError {
  return new MetronomeError('MANIFEST_INVALID', `The code folder "${codeDir}" ${problem}.`, { violations: [{ field: 'spec.code', description: problem }], ...(cause === undefined ? {} : { cause }) });
}
