/**
 * A raw TCP copy of a file to a file between two processes: what the machine can do without HTTP, hashes and a store, for comparison.
 * Two ways: "streams" as one writes it in Node (a read stream piped to a socket, a socket piped to a write stream), and "buffers",
 * where both ends use a few buffers again and again. Run as a program it is the sending process.
 */
import { fork } from 'node:child_process';
import { closeSync, createReadStream, createWriteStream, fstatSync, openSync, read, writeSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** How the copy is made. */
export type CopyWay = 'streams' | 'buffers';

/** The sending process. */
export interface RawSender {
  /** Copies the file that it sends to `target`; resolves to the time it took, ms. */
  copy(way: CopyWay, target: string): Promise<number>;
  stop(): void;
}

const CHUNK_BYTES = 1024 * 1024;
const SENDER = fileURLToPath(import.meta.url);

/** Starts a process that sends `path` to whoever connects. */
export async function startRawSender(path: string): Promise<RawSender> {
  const child = fork(SENDER, [path]);
  const ports = await new Promise<Record<CopyWay, number>>((resolve, reject) => {
    child.once('message', (message) => resolve(message as Record<CopyWay, number>)); // from the code below
    child.once('exit', () => reject(new Error('the raw sender ended')));
  });
  return {
    async copy(way, target) {
      const startedAt = performance.now();
      if (way === 'streams') await pipeline(connect(ports.streams, '127.0.0.1'), createWriteStream(target));
      else await receive(ports.buffers, target);
      return performance.now() - startedAt;
    },
    stop: () => child.disconnect(),
  };
}

function receive(port: number, target: string): Promise<void> {
  const file = openSync(target, 'w');
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  return new Promise((resolve, reject) => {
    const callback = (count: number): boolean => {
      for (let done = 0; done < count; ) done += writeSync(file, buffer, done, count - done);
      return true;
    };
    connect({ port, host: '127.0.0.1', onread: { buffer, callback } })
      .on('error', reject)
      .on('close', () => {
        closeSync(file);
        resolve();
      });
  });
}

async function send(socket: Socket, path: string): Promise<void> {
  const readInto = promisify(read);
  const file = openSync(path, 'r');
  const { size } = fstatSync(file);
  const buffers = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)];
  let sending: Promise<void> = Promise.resolve();
  for (let position = 0, i = 0; position < size; i++) {
    const buffer = buffers[i % 2] as Buffer;
    const { bytesRead } = await readInto(file, buffer, 0, buffer.length, position);
    position += bytesRead;
    await sending;
    sending = new Promise((resolve, reject) => socket.write(buffer.subarray(0, bytesRead), (error) => (error === undefined || error === null ? resolve() : reject(error))));
  }
  await sending;
  closeSync(file);
  socket.end();
}

if (process.argv[1] === SENDER && process.send !== undefined) {
  const path = process.argv[2] ?? '';
  const listen = (handle: (socket: Socket) => Promise<void>): Promise<number> =>
    new Promise((resolve) => {
      const server = createServer((socket) => void handle(socket).catch((error: unknown) => socket.destroy(error as Error)));
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
    });
  process.once('disconnect', () => process.exit(0));
  process.send({ streams: await listen((socket) => pipeline(createReadStream(path, { highWaterMark: CHUNK_BYTES }), socket)), buffers: await listen((socket) => send(socket, path)) });
}
