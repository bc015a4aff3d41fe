/**
 * The lines that messages travel on: a thread's port, a child process's channel, or (for tests and for embedding)
 * memory. All deliver in order, asynchronously, and say when the other side is gone.
 */
import type { ChildProcess } from 'node:child_process';
import type { MessagePort, Worker } from 'node:worker_threads';
import type { Line } from './protocol.ts';

/** A line that says when it ended, by either side. */
export interface ClosableLine<Incoming, Outgoing> extends Line<Incoming, Outgoing> {
  /** Calls back once when no message can come any more; at once if that is so already. */
  onClose(listener: () => void): void;
}

/** One end of a line to or from a worker thread: pass the Worker outside, `parentPort` inside. */
export function createWorkerLine<Incoming, Outgoing>(port: Worker | MessagePort): ClosableLine<Incoming, Outgoing> {
  const end = createEnd();
  const isWorker = 'terminate' in port;
  // Both emitters know these events; their types have no common overload.
  const emitter = port as NodeJS.EventEmitter;
  emitter.once(isWorker ? 'exit' : 'close', end.close);
  return {
    post: (message) => port.postMessage(message),
    onMessage: (listener) => void emitter.on('message', listener),
    onClose: end.onClose,
    close() {
      if (isWorker) port.removeAllListeners('message');
      else port.close();
      end.close();
    },
  };
}

/**
 * One end of a line to or from a forked child process (`serialization: 'advanced'`): pass the ChildProcess outside,
 * `process` inside.
 */
export function createProcessLine<Incoming, Outgoing>(side: ChildProcess | NodeJS.Process): ClosableLine<Incoming, Outgoing> {
  const end = createEnd();
  const emitter = side as NodeJS.EventEmitter;
  emitter.once('disconnect', end.close);
  emitter.once('exit', end.close);
  return {
    post(message) {
      if (end.closed || !side.connected) return;
      // The channel may break between the check and the write; 'disconnect' tells, so the error itself adds nothing.
      side.send?.(message as object, undefined, undefined, () => {});
    },
    onMessage: (listener) => void emitter.on('message', listener),
    onClose: end.onClose,
    close() {
      if (side.connected) side.disconnect?.();
      end.close();
    },
  };
}

/** Both ends of a line in memory. Every message is cloned as a thread would, so that what cannot travel fails at once. */
export function createMemoryLine<AtoB, BtoA>(): readonly [ClosableLine<BtoA, AtoB>, ClosableLine<AtoB, BtoA>] {
  const end = createEnd();
  const toA = createMailbox<BtoA>(end);
  const toB = createMailbox<AtoB>(end);
  return [
    { post: toB.post, onMessage: toA.onMessage, onClose: end.onClose, close: end.close },
    { post: toA.post, onMessage: toB.onMessage, onClose: end.onClose, close: end.close },
  ];
}

interface End {
  readonly closed: boolean;
  readonly close: () => void;
  readonly onClose: (listener: () => void) => void;
}

function createEnd(): End {
  let closed = false;
  const listeners: (() => void)[] = [];
  return {
    get closed() {
      return closed;
    },
    close() {
      if (closed) return;
      closed = true;
      for (const listener of listeners) listener();
    },
    onClose(listener) {
      if (closed) listener();
      else listeners.push(listener);
    },
  };
}

function createMailbox<Message>(end: End): { post(message: Message): void; onMessage(listener: (message: Message) => void): void } {
  const listeners: ((message: Message) => void)[] = [];
  let queue: Message[] = [];
  let scheduled = false;
  const deliver = (): void => {
    scheduled = false;
    if (listeners.length === 0) return;
    const messages = queue;
    queue = [];
    for (const message of messages) for (const listener of listeners) listener(message);
  };
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(deliver);
  };
  return {
    post(message) {
      if (end.closed) return;
      queue.push(structuredClone(message));
      schedule();
    },
    onMessage(listener) {
      listeners.push(listener);
      if (queue.length > 0) schedule();
    },
  };
}
