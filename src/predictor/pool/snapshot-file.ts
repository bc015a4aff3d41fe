/**
 * Snapshots of the model as bytes and as a file: a head with magic, format, length and SHA-256, then the model in msgpackr. What does
 * not check is refused with what is wrong; a file is written beside its place and renamed, so that there is always a whole one.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Packr } from 'msgpackr';
import { MetronomeError } from '../../core/errors.ts';
import { MOST_NAME, type KeyNames } from '../model-keys.ts';
import type { ModelSnapshot } from '../model/online-model.ts';

/** Largest snapshot that is written or read, bytes. */
export const MAX_SNAPSHOT_BYTES = 256 * 1024 ** 2;

const MAGIC = Buffer.from('METRONOME MODEL\n', 'latin1');
const FORMAT = 1;
const DIGEST_BYTES = 32;
/** Magic, format, length, digest. */
const HEAD_BYTES = MAGIC.length + 4 + 8 + DIGEST_BYTES;

// Typed arrays stay typed arrays.
const packr = new Packr({ structuredClone: true, moreTypes: true });

/** A model with the names behind its keys. */
export interface NamedSnapshot {
  readonly names: KeyNames;
  readonly model: ModelSnapshot;
}

/** The bytes of a snapshot. Throws STORE_FULL when it is larger than MAX_SNAPSHOT_BYTES. */
export function encodeSnapshot(snapshot: NamedSnapshot): Uint8Array<ArrayBuffer> {
  const body = packr.pack(snapshot);
  if (HEAD_BYTES + body.length > MAX_SNAPSHOT_BYTES) throw new MetronomeError('STORE_FULL', `The model's snapshot would have ${body.length} bytes; at most ${MAX_SNAPSHOT_BYTES} are stored. A smaller model.window helps.`);
  const bytes = new Uint8Array(HEAD_BYTES + body.length);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(MAGIC.length, FORMAT);
  view.setBigUint64(MAGIC.length + 4, BigInt(body.length));
  bytes.set(createHash('sha256').update(body).digest(), MAGIC.length + 12);
  bytes.set(body, HEAD_BYTES);
  return bytes;
}

/** What encodeSnapshot wrote. Throws STATE_CORRUPT that says what is wrong; `place` goes into the message. */
export function decodeSnapshot(bytes: Uint8Array, place: string): NamedSnapshot {
  const corrupt = (what: string, cause?: unknown): MetronomeError => new MetronomeError('STATE_CORRUPT', `${place} is no usable snapshot of a model: ${what}.`, { component: 'scheduler', ...(cause === undefined ? {} : { cause }) });
  if (bytes.length < HEAD_BYTES || !MAGIC.equals(bytes.subarray(0, MAGIC.length))) throw corrupt('it does not begin like one');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const format = view.getUint32(MAGIC.length);
  if (format !== FORMAT) throw corrupt(`it has format ${format}, this build reads ${FORMAT}`);
  const length = Number(view.getBigUint64(MAGIC.length + 4));
  const body = bytes.subarray(HEAD_BYTES);
  if (body.length !== length) throw corrupt(`it should go on for ${length} bytes and does for ${body.length}`);
  if (!createHash('sha256').update(body).digest().equals(bytes.subarray(MAGIC.length + 12, HEAD_BYTES))) throw corrupt('its checksum does not fit its content');
  try {
    const snapshot: unknown = packr.unpack(body);
    if (isNamedSnapshot(snapshot)) return snapshot;
  } catch (error) {
    throw corrupt('its content cannot be unpacked', error);
  }
  throw corrupt('its content is no model');
}

/** The model checks its own parts. */
function isNamedSnapshot(value: unknown): value is NamedSnapshot {
  if (typeof value !== 'object' || value === null || !('model' in value) || !('names' in value)) return false;
  const { model, names } = value;
  const isNames = (list: unknown): boolean => Array.isArray(list) && list.every((name) => typeof name === 'string' && name.length <= MOST_NAME);
  if (typeof model !== 'object' || model === null || !('format' in model) || typeof model.format !== 'number') return false;
  return typeof names === 'object' && names !== null && 'functions' in names && isNames(names.functions) && 'nodes' in names && isNames(names.nodes);
}

/** Writes the bytes so that `path` holds either the old ones or all the new ones. Makes its folder. */
export async function writeSnapshotFile(path: string, bytes: Uint8Array): Promise<void> {
  const beside = `${path}.new`;
  await mkdir(dirname(path), { recursive: true });
  const file = await open(beside, 'w', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(beside, path);
}

/** The bytes of the file; undefined if there is none. Throws STATE_CORRUPT when it is too large to be one. */
export async function readSnapshotFile(path: string): Promise<Uint8Array | undefined> {
  // Left by a crash while it was written.
  await rm(`${path}.new`, { force: true });
  const size = await stat(path).then((found) => found.size, (error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (size === undefined) return undefined;
  if (size > MAX_SNAPSHOT_BYTES) throw new MetronomeError('STATE_CORRUPT', `${path} has ${size} bytes; a snapshot of a model has at most ${MAX_SNAPSHOT_BYTES}.`);
  return readFile(path);
}

/** Moves a file that is of no use out of the way, for whoever wants to look at it. Returns its new name; only the last such file is kept. */
export async function moveAside(path: string): Promise<string> {
  const aside = `${path}.refused`;
  await rename(path, aside);
  return aside;
}
