/**
 * The protocol between agent and sandbox: frames of a 4-byte big-endian length and a msgpack map, on file descriptor 3
 * of the sandbox. What comes from a sandbox is checked here: it may be anything.
 */
import { Packr, Unpackr } from 'msgpackr';

/** What a process that waited for its function needs to know besides; a process that was spawned for it has all this from its start. */
export interface Adoption {
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly workDir: string;
  /** Node: folders of packages, and the folders of equal ones that are loaded already. */
  readonly loaded: Readonly<Record<string, string>>;
}

/** To the sandbox. `preload` may come first, in a process that waits for its function; `init` comes once; then `run`, one at a time. */
export type AgentFrame =
  | {
      readonly kind: 'preload';
      /** Folder that holds node_modules. */
      readonly layerDir: string;
      readonly packages: readonly { readonly id: string; readonly name: string }[];
    }
  | {
      readonly kind: 'init';
      readonly adoption: Adoption | undefined;
      /** Absolute path of the module. */
      readonly file: string;
      readonly exportName: string;
      readonly bundleDir: string;
      /** Python: folders of the packages, in order. */
      readonly importPaths: readonly string[];
      readonly functionName: string;
      readonly memoryMb: number;
      readonly maxResultBytes: number;
    }
  | {
      readonly kind: 'run';
      readonly seq: number;
      readonly invocationId: string;
      readonly attempt: number;
      readonly deadlineUnixMs: number;
      readonly traceparent: string;
      readonly contentType: string;
      readonly payload: Uint8Array;
      readonly inputs: readonly { readonly id: string; readonly name: string; readonly path: string; readonly sizeBytes: number }[];
      readonly outputDir: string;
    };

/** What a function threw. */
interface Thrown {
  readonly type: string;
  readonly message: string;
  readonly stack: string;
}

/** How the imports of a zygote went, by package id. */
export interface PreloadReport {
  readonly importMs: ReadonlyMap<string, number>;
  /** Packages that could not be imported, with the reason. */
  readonly failed: ReadonlyMap<string, string>;
}

/** From the sandbox. */
export type SandboxFrame =
  | { readonly kind: 'preloaded'; readonly report: PreloadReport }
  | { readonly kind: 'ready'; /** Import of the handler, ms. */ readonly loadMs: number }
  | ({ readonly kind: 'loadFailed' } & Thrown)
  | { readonly kind: 'done'; readonly seq: number; readonly ranMs: number; readonly contentType: string; readonly payload: Buffer; readonly hasOutputs: boolean }
  | ({ readonly kind: 'failed'; readonly seq: number; readonly ranMs: number } & Thrown)
  | { readonly kind: 'tooLarge'; readonly seq: number; readonly ranMs: number; readonly sizeBytes: number };

/** Room for everything in a frame but the payload, bytes. */
export const FRAME_OVERHEAD_BYTES = 128 * 1024;
const HEADER_BYTES = 4;
/** Above this a frame is not copied behind its header but sent in two parts. */
const COPY_LIMIT_BYTES = 64 * 1024;
const MAX_MESSAGE_CHARS = 8 * 1024;
const MAX_STACK_CHARS = 16 * 1024;

// No records: Python and the Node shim read plain maps only.
const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true });

/** The bytes of a frame, in one or two parts. */
export function encodeFrame(frame: AgentFrame): Buffer[] {
  const body = packr.pack(frame);
  const whole = body.length <= COPY_LIMIT_BYTES;
  const head = Buffer.allocUnsafe(HEADER_BYTES + (whole ? body.length : 0));
  head.writeUInt32BE(body.length, 0);
  if (!whole) return [head, body];
  body.copy(head, HEADER_BYTES);
  return [head];
}

/** A frame from a sandbox, or undefined if it is none. */
export function decodeFrame(bytes: Buffer): SandboxFrame | undefined {
  let value: unknown;
  try {
    value = unpackr.unpack(bytes);
  } catch {
    return undefined; // garbage is an answer too; the caller ends the sandbox
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const frame = value as Readonly<Record<string, unknown>>; // checked field by field below
  const { kind, seq, ranMs } = frame;
  if (kind === 'preloaded') return { kind, report: readPreloadReport(frame) };
  if (kind === 'ready') return typeof frame['loadMs'] === 'number' && frame['loadMs'] >= 0 ? { kind, loadMs: frame['loadMs'] } : undefined;
  if (kind === 'loadFailed') return { kind, ...thrown(frame) };
  if (typeof seq !== 'number' || typeof ranMs !== 'number' || !(ranMs >= 0)) return undefined;
  switch (kind) {
    case 'done': {
      const { payload, contentType, hasOutputs } = frame;
      if (!Buffer.isBuffer(payload) || typeof contentType !== 'string' || contentType.length > 255 || typeof hasOutputs !== 'boolean') return undefined;
      return { kind, seq, ranMs, contentType, payload, hasOutputs };
    }
    case 'failed': return { kind, seq, ranMs, ...thrown(frame) };
    case 'tooLarge': return typeof frame['sizeBytes'] === 'number' ? { kind, seq, ranMs, sizeBytes: frame['sizeBytes'] } : undefined;
    default: return undefined;
  }
}

/** Reads { importMs, failed }, whatever it really is. */
export function readPreloadReport(value: Readonly<Record<string, unknown>>): PreloadReport {
  const entriesOf = (field: unknown): [string, unknown][] => (typeof field === 'object' && field !== null ? Object.entries(field) : []);
  return {
    importMs: new Map(entriesOf(value['importMs']).filter((entry): entry is [string, number] => typeof entry[1] === 'number' && entry[1] >= 0)),
    failed: new Map(entriesOf(value['failed']).map(([id, reason]) => [id, String(reason).slice(0, MAX_MESSAGE_CHARS)])),
  };
}

function thrown(frame: Readonly<Record<string, unknown>>): Thrown {
  const text = (value: unknown, max: number): string => (typeof value === 'string' ? value.slice(0, max).toWellFormed() : '');
  return { type: text(frame['type'], 255) || 'Error', message: text(frame['message'], MAX_MESSAGE_CHARS), stack: text(frame['stack'], MAX_STACK_CHARS) };
}

/** Cuts a byte stream into frames. Memory is bounded by `maxFrameBytes` and one chunk. */
export class FrameReader {
  readonly #maxFrameBytes: number;
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** Bytes that must be there before it is worth looking again. */
  #wanted = HEADER_BYTES;

  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** Takes in a chunk and hands out every frame that is complete. False: a frame claims to be larger than allowed; the reader is of no more use. */
  feed(chunk: Buffer, onFrame: (body: Buffer) => void): boolean {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes < this.#wanted) return true;
    const all = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#bytes);
    let at = 0;
    for (;;) {
      const left = all.length - at;
      if (left < HEADER_BYTES) {
        this.#wanted = HEADER_BYTES;
        break;
      }
      const length = all.readUInt32BE(at);
      if (length > this.#maxFrameBytes) return false;
      if (left < HEADER_BYTES + length) {
        this.#wanted = HEADER_BYTES + length;
        break;
      }
      at += HEADER_BYTES + length;
      onFrame(all.subarray(at - length, at));
    }
    this.#chunks = at === all.length ? [] : [all.subarray(at)];
    this.#bytes = all.length - at;
    return true;
  }
}
