/**
 * Entry point of the agent's data thread: the data server, downloads and hashes. Bytes of objects are moved and hashed here and
 * nowhere else, so that a transfer never stands between an invocation and its warm sandbox.
 */
import { createHash } from 'node:crypto';
import { constants, open } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { MetronomeError } from '../../core/errors.ts';
import { CallLine, type LinePort } from './call-line.ts';
import type { DataThreadCalls, DataThreadData, FileDigest, StoreCalls } from './data-protocol.ts';
import { startDataServer, type DataServer } from './data-server.ts';
import { download } from './download.ts';
import { HolderClient } from './holder-client.ts';
import { LinkShaper } from './link-shaper.ts';

if (parentPort === null) throw new Error('data-worker.ts runs only as a worker thread.');
const port: LinePort & { close(): void } = parentPort;
const { link, timeouts } = workerData as DataThreadData;
const egress = new LinkShaper(link.bytesPerS);
const ingress = new LinkShaper(link.bytesPerS);
const client = new HolderClient({ timeouts, ingress, latencyMs: link.latencyMs });
let server: DataServer | undefined;

const HASH_CHUNK_BYTES = 256 * 1024;

const agent: CallLine<StoreCalls, DataThreadCalls> = new CallLine<StoreCalls, DataThreadCalls>(port, {
  async listen({ host, port: wanted }) {
    server = await startDataServer({ host, port: wanted, store: agent, egress, ingress, latencyMs: link.latencyMs });
    return server.port;
  },
  download: (order, signal) =>
    download(order, client, signal, (node, outcome) => {
      agent.call('log', { fields: { objectId: order.id, node, outcome }, event: 'object.suspected' }).catch(() => {}); // the agent is gone: nobody reads it
    }),
  digest: (path) => digestOf(path),
  async close() {
    client.close();
    await server?.stop();
    // What is still answered here fails on its own; then nothing keeps the thread alive.
    setImmediate(() => {
      agent.break(new MetronomeError('CANCELLED', 'The agent is shutting down.'));
      port.close();
    });
  },
});

async function digestOf(path: string): Promise<FileDigest> {
  // An output may lie where a function can still put a link or a pipe in its place.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(HASH_CHUNK_BYTES);
    let sizeBytes = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
      sizeBytes += bytesRead;
    }
    return { sizeBytes, digest: hash.digest('hex') };
  } finally {
    await file.close();
  }
}
