/**
 * Runs inside the sandbox of a Node function: loads the handler, then runs it whenever the agent says so.
 * Started by the agent's sandbox driver, never imported by it. Plain JavaScript without any dependency, because every
 * import here is paid at every cold start (msgpackr alone costs 15 to 50 ms).
 *
 * The contract of a handler
 *   export async function handler(event, context) { … }      // "handler.mjs"; "handler.mjs#run" names another export
 * ES modules and CommonJS; without a named export `handler`, a default export that is a function is taken.
 *
 * event    application/json (or …+json): the parsed value, null when the payload is empty. Any other content type: a Buffer.
 * context  invocationId, attempt (1 is the first), function (name), deadlineMs (ms since 1970), remainingMs(), traceparent
 *          contentType  media type of the payload
 *          inputs       [{ id, name, path, sizeBytes }]: local files, to be read only
 *          output(name) absolute path to write an output object to; every file in that directory becomes an object after the return
 * returns  undefined: an empty payload of type application/json, which readers take as null
 *          Buffer, TypedArray or ArrayBuffer: application/octet-stream
 *          anything else: JSON, application/json
 * throws   the caller gets type, message and stack; the sandbox stays in use. An unhandled rejection or process.exit() ends the sandbox.
 *
 * stdout and stderr are captured per run. A sandbox runs one invocation at a time; module state survives between runs.
 * Protocol: src/agent/sandbox/sandbox-frames.ts, on file descriptor 3.
 */
import { mkdirSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const now = performance.now.bind(performance);
const unixNow = Date.now;
const { parse, stringify } = JSON;

// Made here, while the start is paid anyway.
const outputs = [process.stdout, process.stderr];
// Written at once, as to a terminal: what a handler prints in one go would otherwise pile up in its own memory and be counted against its limit.
for (const stream of outputs) stream._handle?.setBlocking?.(true);
const control = new Socket({ fd: 3, readable: true, writable: true });
// The agent is gone: so is this sandbox, with the children that it started.
const end = () => {
  try {
    process.kill(-process.pid, 'SIGKILL');
  } finally {
    process.exit(0);
  }
};
control.on('end', end);
control.on('error', end);

let functionName = '';
let maxResultBytes = 0;
let handler;
let buffered = Buffer.alloc(0);
let chunks = [];
let chunkBytes = 0;
let wanted = 4;

control.on('data', (chunk) => {
  chunks.push(chunk);
  chunkBytes += chunk.length;
  if (chunkBytes < wanted) return;
  buffered = chunks.length === 1 ? chunk : Buffer.concat(chunks, chunkBytes);
  for (;;) {
    if (buffered.length < 4) {
      wanted = 4;
      break;
    }
    const length = buffered.readUInt32BE(0);
    if (buffered.length < 4 + length) {
      wanted = 4 + length;
      break;
    }
    const frame = unpack(buffered.subarray(4, 4 + length));
    buffered = buffered.subarray(4 + length);
    if (frame.kind === 'run') void run(frame);
    else if (frame.kind === 'init') void init(frame);
    else void preload(frame);
  }
  chunks = buffered.length === 0 ? [] : [buffered];
  chunkBytes = buffered.length;
});

/** As a zygote: imports packages before there is a function. What fails is left to the function's own import. */
async function preload({ layerDir, packages }) {
  const { compileFunction, constants } = process.getBuiltinModule('node:vm');
  const base = join(layerDir, 'zygote.cjs'); // no file: only its folder counts, for the look-up of packages
  const require = process.getBuiltinModule('node:module').createRequire(base);
  const load = compileFunction('return import(name)', ['name'], { filename: base, importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER });
  const importMs = {};
  const failed = {};
  for (const { id, name } of packages) {
    const startedAt = now();
    // Both: a package may have one module for import and another one for require. Where it is the same, the second finds it loaded.
    const imported = await load(name).then(() => undefined, describe);
    let required;
    try {
      require(name);
    } catch (thrown) {
      required = describe(thrown);
    }
    if (imported !== undefined && required !== undefined) failed[id] = `${imported.type}: ${imported.message}`;
    else importMs[id] = now() - startedAt;
  }
  send({ kind: 'preloaded', importMs, failed });
}

/** A process that waited becomes the function's: as if it had been started with its environment. */
function adopt({ env, workDir, loaded }) {
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  Object.assign(process.env, env);
  process.chdir(workDir);
  if (Object.keys(loaded).length === 0) return;
  // Packages that are the same as loaded ones, but lie elsewhere: the loaded copy is taken.
  const { registerHooks } = process.getBuiltinModule('node:module');
  const copies = new Map(Object.entries(loaded).map(([from, to]) => [pathToFileURL(from).href, pathToFileURL(to).href]));
  registerHooks({
    resolve(specifier, context, nextResolve) {
      const found = nextResolve(specifier, context);
      const folder = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(found.url)?.[0];
      const copy = folder === undefined ? undefined : copies.get(folder);
      return copy === undefined ? found : { ...found, url: copy + found.url.slice(folder.length) };
    },
  });
}

async function init(frame) {
  const startedAt = now();
  ({ functionName, maxResultBytes } = frame);
  try {
    if (frame.adoption !== null) adopt(frame.adoption);
    const module = await import(pathToFileURL(frame.file).href);
    const { exportName } = frame;
    // Named exports of CommonJS are not always detected; module.exports is the default export.
    let found = module[exportName] ?? module.default?.[exportName];
    if (found === undefined && exportName === 'handler') found = module.default;
    if (typeof found !== 'function') {
      const names = Object.keys(module).join(', ') || 'nothing';
      throw new TypeError(`The module exports no function "${exportName}". It exports: ${names}.`);
    }
    handler = found;
  } catch (thrown) {
    send({ kind: 'loadFailed', ...describe(thrown) });
    return;
  }
  send({ kind: 'ready', loadMs: now() - startedAt });
}

async function run(frame) {
  const { seq, outputDir } = frame;
  let hasOutputs = false;
  const context = {
    invocationId: frame.invocationId,
    attempt: frame.attempt,
    function: functionName,
    deadlineMs: frame.deadlineUnixMs,
    remainingMs: () => Math.max(0, frame.deadlineUnixMs - unixNow()),
    traceparent: frame.traceparent,
    contentType: frame.contentType,
    inputs: frame.inputs,
    output(name) {
      if (typeof name !== 'string' || name === '' || name === '.' || name === '..' || /[/\0]/.test(name) || Buffer.byteLength(name) > 255) {
        throw new TypeError(`An output needs a plain file name of at most 255 bytes, not ${stringify(name)}.`);
      }
      if (!hasOutputs) {
        mkdirSync(outputDir, { recursive: true });
        hasOutputs = true;
      }
      return join(outputDir, name);
    },
  };
  const startedAt = now();
  let answer;
  try {
    const event = readEvent(frame);
    let result = handler(event, context);
    // Awaiting a plain value would cost the warm path a turn.
    if (typeof result?.then === 'function') result = await result;
    answer = readResult(result);
  } catch (thrown) {
    const ranMs = now() - startedAt;
    if (outputs.some(isBehind)) await flush();
    send({ kind: 'failed', seq, ranMs, ...describe(thrown) });
    return;
  }
  const ranMs = now() - startedAt;
  if (outputs.some(isBehind)) await flush();
  if (answer.payload.length > maxResultBytes) send({ kind: 'tooLarge', seq, ranMs, sizeBytes: answer.payload.length });
  else send({ kind: 'done', seq, ranMs, hasOutputs, contentType: answer.contentType, payload: answer.payload });
}

/** What was printed must be in the pipes before the agent hears of the end: a pipe that is full makes Node buffer. */
function flush() {
  return Promise.all(outputs.filter(isBehind).map((stream) => new Promise((resolve) => stream.write('', resolve))));
}

function isBehind(stream) {
  return stream.writableLength > 0 && !stream.destroyed;
}

function readEvent({ contentType, payload }) {
  if (contentType !== 'application/json' && !/^application\/(json|[\w.-]+\+json)\s*(;|$)/i.test(contentType)) return payload;
  return payload.length === 0 ? null : parse(payload.toString('utf8'));
}

function readResult(result) {
  if (result === undefined) return { contentType: 'application/json', payload: Buffer.alloc(0) };
  if (Buffer.isBuffer(result)) return { contentType: 'application/octet-stream', payload: result };
  if (ArrayBuffer.isView(result)) return { contentType: 'application/octet-stream', payload: Buffer.from(result.buffer, result.byteOffset, result.byteLength) };
  if (result instanceof ArrayBuffer) return { contentType: 'application/octet-stream', payload: Buffer.from(result) };
  const text = stringify(result);
  if (text === undefined) throw new TypeError(`The handler returned a ${typeof result}, which is neither JSON nor bytes.`);
  return { contentType: 'application/json', payload: Buffer.from(text) };
}

function describe(thrown) {
  if (!(thrown instanceof Error)) return { type: typeof thrown, message: cut(String(thrown), 8192), stack: '' };
  return { type: cut(String(thrown.name || thrown.constructor?.name || 'Error'), 255), message: cut(String(thrown.message), 8192), stack: cut(String(thrown.stack ?? ''), 16384) };
}

function cut(text, length) {
  return text.length <= length ? text : text.slice(0, length);
}

function send(message) {
  const head = Buffer.allocUnsafe(4);
  const parts = [head];
  pack(message, parts);
  const frame = Buffer.concat(parts); // one write: each wakes the agent
  frame.writeUInt32BE(frame.length - 4, 0);
  control.write(frame);
}

// ── msgpack: what the protocol needs, no more ─────────────────────────────────────────────────────────────────────

function pack(value, parts) {
  if (value === null || value === undefined) parts.push(Buffer.from([0xc0]));
  else if (value === true) parts.push(Buffer.from([0xc3]));
  else if (value === false) parts.push(Buffer.from([0xc2]));
  else if (typeof value === 'number') {
    if (Number.isInteger(value) && value >= 0 && value < 128) parts.push(Buffer.from([value]));
    else {
      const bytes = Buffer.allocUnsafe(9);
      bytes[0] = 0xcb;
      bytes.writeDoubleBE(value, 1);
      parts.push(bytes);
    }
  } else if (typeof value === 'string') {
    const bytes = Buffer.from(value);
    const head = Buffer.allocUnsafe(5);
    head[0] = 0xdb;
    head.writeUInt32BE(bytes.length, 1);
    parts.push(head, bytes);
  } else if (Buffer.isBuffer(value)) {
    const head = Buffer.allocUnsafe(5);
    head[0] = 0xc6;
    head.writeUInt32BE(value.length, 1);
    parts.push(head, value);
  } else {
    const entries = Object.entries(value);
    parts.push(Buffer.from(entries.length < 16 ? [0x80 | entries.length] : [0xde, entries.length >> 8, entries.length & 255]));
    for (const [key, field] of entries) {
      pack(key, parts);
      pack(field, parts);
    }
  }
}

function unpack(bytes) {
  let at = 0;
  const text = (length) => bytes.toString('utf8', at, (at += length));
  const binary = (length) => bytes.subarray(at, (at += length));
  const list = (length) => Array.from({ length }, read);
  const map = (length) => {
    const object = {};
    for (let i = 0; i < length; i++) {
      const key = read();
      object[key] = read();
    }
    return object;
  };
  const u8 = () => bytes[at++];
  const u16 = () => bytes.readUInt16BE((at += 2) - 2);
  const u32 = () => bytes.readUInt32BE((at += 4) - 4);
  function read() {
    const tag = bytes[at++];
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag & 15);
    if (tag < 0xa0) return list(tag & 15);
    if (tag < 0xc0) return text(tag & 31);
    if (tag >= 0xe0) return tag - 256;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return binary(u8());
      case 0xc5: return binary(u16());
      case 0xc6: return binary(u32());
      case 0xca: return bytes.readFloatBE((at += 4) - 4);
      case 0xcb: return bytes.readDoubleBE((at += 8) - 8);
      case 0xcc: return u8();
      case 0xcd: return u16();
      case 0xce: return u32();
      case 0xcf: return Number(bytes.readBigUInt64BE((at += 8) - 8));
      case 0xd0: return bytes.readInt8(at++);
      case 0xd1: return bytes.readInt16BE((at += 2) - 2);
      case 0xd2: return bytes.readInt32BE((at += 4) - 4);
      case 0xd3: return Number(bytes.readBigInt64BE((at += 8) - 8));
      case 0xd9: return text(u8());
      case 0xda: return text(u16());
      case 0xdb: return text(u32());
      case 0xdc: return list(u16());
      case 0xdd: return list(u32());
      case 0xde: return map(u16());
      case 0xdf: return map(u32());
      default: throw new Error(`msgpack tag ${tag} is not part of the protocol`);
    }
  }
  return read();
}
