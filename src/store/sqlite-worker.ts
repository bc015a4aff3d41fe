/**
 * Entry point of the store's thread: disk I/O happens here, so that it never blocks the loop that schedules.
 * Group commit: everything that waits runs in one transaction, in order, and is answered in one message after the commit.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parentPort, receiveMessageOnPort, workerData, type MessagePort, type Transferable } from 'node:worker_threads';
import { MetronomeError } from '../core/errors.ts';
import { lockDirectory, type DirectoryLock } from './directory-lock.ts';
import { isWrite, type Engine, type Operation, type Operations } from './engine.ts';
import { openSqliteEngine, type SqliteEngine } from './sqlite-engine.ts';
import { fromSqlite } from './sqlite-errors.ts';
import type { FromWorker, ToWorker, WorkerAnswer, WorkerRequest, WorkerSettings } from './worker-protocol.ts';

/** Bounds of one transaction, so that its first request does not wait for too much that came after it. */
const BATCH_REQUESTS = 4_096;
const BATCH_BYTES = 32 * 1024 ** 2;
/** Results from this size on are handed over instead of copied. */
const TRANSFER_BYTES = 64 * 1024;

if (parentPort) start(parentPort, workerData as WorkerSettings); // The only sender is sqlite-store.ts.

function start(port: MessagePort, settings: WorkerSettings): void {
  const send = (message: FromWorker, transfer: readonly Transferable[] = []): void => port.postMessage(message, transfer);
  const file = join(settings.dir, 'metronome.db');
  let lock: DirectoryLock | undefined;
  let engine: SqliteEngine;
  try {
    makeDirectory(settings.dir);
    lock = lockDirectory(settings.dir, settings.lockWaitMs);
    engine = openSqliteEngine({ file, maxBytes: settings.maxBytes, synchronous: settings.synchronous });
  } catch (thrown) {
    lock?.release();
    send({ kind: 'failed', error: fromSqlite(thrown, file).toRecord() });
    port.close();
    return;
  }
  const held = lock;
  const waiting: WorkerRequest[] = [];
  let isClosing = false;
  const take = (message: ToWorker): void => {
    if (message.kind === 'close') isClosing = true;
    else for (const request of message.requests) waiting.push(request);
  };
  /** Whatever else has arrived joins the next transaction. */
  const drain = (): void => {
    for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) take(next.message as ToWorker);
  };
  /** Lets go of the files and ends the thread with one last message: `last`, or what went wrong on the way. */
  const stop = (last: FromWorker): void => {
    try {
      engine.close();
      send(last);
    } catch (thrown) {
      send(last.kind === 'failed' ? last : { kind: 'failed', error: fromSqlite(thrown, file).toRecord() });
    } finally {
      held.release();
      port.close();
    }
  };
  port.on('message', (message: ToWorker) => {
    take(message);
    drain();
    while (waiting.length > 0) {
      const { answers, broken } = runBatch(engine, file, waiting);
      send({ kind: 'answers', answers }, transferable(answers));
      if (broken) {
        // Going on to write into a damaged file would make it worse.
        return stop({ kind: 'failed', error: broken.toRecord() });
      }
      drain();
    }
    if (isClosing) stop({ kind: 'closed' });
  });
  send({ kind: 'ready' });
}

interface BatchResult {
  readonly answers: readonly WorkerAnswer[];
  /** Set when a write found the file damaged. */
  readonly broken: MetronomeError | undefined;
}

/** Runs the first requests of `waiting` in one transaction and removes them. */
function runBatch(engine: SqliteEngine, file: string, waiting: WorkerRequest[]): BatchResult {
  const answers: WorkerAnswer[] = [];
  let bytes = 0;
  let writes = 0;
  try {
    engine.begin();
    for (const request of waiting) {
      if (answers.length === BATCH_REQUESTS || (answers.length > 0 && bytes + request.bytes > BATCH_BYTES)) break;
      const answer = run(engine.operations, request);
      answers.push(answer);
      bytes += request.bytes + sizeOf(answer);
      if (isWrite(request.operation)) writes++;
    }
    engine.commit(writes);
    waiting.splice(0, answers.length);
    return { answers, broken: undefined };
  } catch {
    // One of them cannot be written. Nothing of this transaction stays; each is tried alone, so that only the culprit fails.
    engine.rollback();
    return runEach(engine, file, waiting, Math.max(1, answers.length + 1));
  }
}

function runEach(engine: SqliteEngine, file: string, waiting: WorkerRequest[], count: number): BatchResult {
  const answers: WorkerAnswer[] = [];
  for (const request of waiting.splice(0, count)) {
    try {
      engine.begin();
      const answer = run(engine.operations, request);
      engine.commit(isWrite(request.operation) ? 1 : 0);
      answers.push(answer);
    } catch (thrown) {
      const error = fromSqlite(thrown, file);
      answers.push({ id: request.id, ok: false, error: error.toRecord() });
      engine.rollback();
      if (error.code === 'STATE_CORRUPT' && isWrite(request.operation)) return { answers, broken: error };
    }
  }
  return { answers, broken: undefined };
}

/** Runs one request. A refusal is an answer; an error of the database is thrown. */
function run<K extends Operation>(operations: Engine, request: WorkerRequest<K>): WorkerAnswer {
  const operation: (args: Operations[K]['args']) => Operations[K]['result'] = operations[request.operation];
  try {
    return { id: request.id, ok: true, value: operation(request.args) };
  } catch (thrown) {
    if (thrown instanceof MetronomeError && thrown.code !== 'STATE_CORRUPT') return { id: request.id, ok: false, error: thrown.toRecord() };
    throw thrown;
  }
}

function sizeOf(answer: WorkerAnswer): number {
  return answer.ok && answer.value instanceof Uint8Array ? answer.value.byteLength : 0;
}

function transferable(answers: readonly WorkerAnswer[]): readonly Transferable[] {
  const buffers: ArrayBuffer[] = [];
  for (const answer of answers) {
    if (answer.ok && answer.value instanceof Uint8Array && answer.value.byteLength >= TRANSFER_BYTES && answer.value.buffer instanceof ArrayBuffer) {
      buffers.push(answer.value.buffer);
    }
  }
  return buffers;
}

function makeDirectory(dir: string): void {
  try {
    // Requests may hold secrets: a directory that we make is for its owner only.
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
      throw new MetronomeError('PERMISSION_DENIED', `The data directory "${dir}" cannot be made (${reason}). Make it, or use another one.`, { cause: thrown });
    }
    if (code === 'ENOSPC' || code === 'EDQUOT') throw new MetronomeError('STORE_FULL', `The data directory "${dir}" cannot be made (${reason}). Free space.`, { cause: thrown });
    throw new MetronomeError('CONFIG_INVALID', `"${dir}" cannot be used as data directory (${reason}). Use another one.`, { cause: thrown });
  }
}
