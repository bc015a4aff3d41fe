/**
 * Unpacks a Python wheel: a zip with the files of a package as they shall lie on sys.path (binary distribution format, PEP 427).
 * What belongs elsewhere (scripts, headers, data) is left out: functions import, they do not call.
 */
import { closeSync, mkdirSync, openSync, readSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { crc32, inflateRawSync } from 'node:zlib';
import { formatBytes } from '../../core/units.ts';

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_ENTRY = 0x04034b50;
const END_BYTES = 22;
const MAX_COMMENT_BYTES = 65_535;
const MAX_DIRECTORY_BYTES = 64 * 1024 ** 2;
const MAX_FILE_BYTES = 1024 ** 3;
const STORED = 0, DEFLATED = 8;

interface ZipEntry {
  readonly path: string;
  readonly method: number;
  readonly crc: number;
  readonly packedBytes: number;
  readonly sizeBytes: number;
  readonly offset: number;
  readonly mode: number;
}

/** Unpacks into an empty folder. Throws when the archive is broken, unsafe, or larger than `maxBytes` unpacked. */
export function unpackWheel(file: string, target: string, maxBytes: number): void {
  const fd = openSync(file, 'r');
  try {
    const entries = readDirectory(fd, statSync(file).size);
    let bytes = 0;
    const folders = new Set<string>();
    for (const entry of entries) {
      const place = placeOf(entry.path);
      if (place === undefined) continue;
      bytes += entry.sizeBytes;
      if (bytes > maxBytes) throw new Error(`it has more than ${formatBytes(maxBytes)} unpacked`);
      const path = join(target, place);
      const folder = dirname(path);
      if (!folders.has(folder)) mkdirSync(folder, { recursive: true });
      folders.add(folder);
      writeFileSync(path, contentOf(fd, entry), { mode: (entry.mode & 0o111) === 0 ? 0o444 : 0o555, flag: 'wx' });
    }
    if (folders.size === 0) throw new Error('it has no files');
  } finally {
    closeSync(fd);
  }
}

/** Where a file of the archive goes; undefined: nowhere. */
function placeOf(path: string): string | undefined {
  if (path.endsWith('/')) return undefined;
  const way = normalize(path);
  if (way.startsWith('/') || way === '..' || way.startsWith('../') || path.includes('\\') || path.includes('\0')) throw new Error(`"${path.slice(0, 80)}" would lie outside of the package`);
  const data = /^[^/]+\.data\/([^/]+)\/(.+)$/.exec(way);
  if (data === null) return way;
  return data[1] === 'purelib' || data[1] === 'platlib' ? data[2] : undefined;
}

function readDirectory(fd: number, fileBytes: number): ZipEntry[] {
  const tail = read(fd, Math.max(0, fileBytes - END_BYTES - MAX_COMMENT_BYTES), Math.min(fileBytes, END_BYTES + MAX_COMMENT_BYTES));
  let end = tail.length - END_BYTES;
  while (end >= 0 && tail.readUInt32LE(end) !== END_OF_DIRECTORY) end--;
  if (end < 0) throw new Error('it is no zip archive');
  const count = tail.readUInt16LE(end + 10);
  const sizeBytes = tail.readUInt32LE(end + 12);
  const offset = tail.readUInt32LE(end + 16);
  if (count === 0xffff || offset === 0xffffffff || sizeBytes > MAX_DIRECTORY_BYTES) throw new Error('it is larger than a wheel may be (4 GiB, 65 534 files)');
  const directory = read(fd, offset, sizeBytes);
  const entries: ZipEntry[] = [];
  for (let at = 0, i = 0; i < count; i++) {
    if (directory.readUInt32LE(at) !== DIRECTORY_ENTRY) throw new Error('its directory is broken');
    const nameBytes = directory.readUInt16LE(at + 28);
    entries.push({
      method: directory.readUInt16LE(at + 10), crc: directory.readUInt32LE(at + 16), packedBytes: directory.readUInt32LE(at + 20), sizeBytes: directory.readUInt32LE(at + 24),
      mode: directory.readUInt32LE(at + 38) >>> 16, offset: directory.readUInt32LE(at + 42), path: directory.toString('utf8', at + 46, at + 46 + nameBytes),
    });
    at += 46 + nameBytes + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  return entries;
}

function contentOf(fd: number, { path, method, crc, packedBytes, sizeBytes, offset }: ZipEntry): Buffer {
  if (sizeBytes > MAX_FILE_BYTES || packedBytes > MAX_FILE_BYTES) throw new Error(`"${path}" is larger than ${formatBytes(MAX_FILE_BYTES)}`);
  const local = read(fd, offset, 30);
  if (local.readUInt32LE(0) !== LOCAL_ENTRY) throw new Error(`"${path}" is not where its directory says`);
  const packed = read(fd, offset + 30 + local.readUInt16LE(26) + local.readUInt16LE(28), packedBytes);
  let content: Buffer;
  if (method === STORED) content = packed;
  else if (method === DEFLATED) content = sizeBytes === 0 ? Buffer.alloc(0) : inflateRawSync(packed, { maxOutputLength: sizeBytes });
  else throw new Error(`"${path}" is packed in a way that wheels do not use (${method})`);
  if (content.length !== sizeBytes || crc32(content) !== crc) throw new Error(`"${path}" does not match its checksum`);
  return content;
}

function read(fd: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const count = readSync(fd, buffer, done, length - done, position + done);
    if (count === 0) throw new Error('it ends too early');
    done += count;
  }
  return buffer;
}
