/** The thread that installs packages: answers the requests of install-protocol.ts. It holds no state but what lies on disk. */
import { parentPort } from 'node:worker_threads';
import { MetronomeError } from '../../core/errors.ts';
import { orDiskFull } from './disk-full.ts';
import { installPackage } from './install-package.ts';
import type { InstallReport, InstallRequest } from './install-protocol.ts';
import { linkTree } from './link-tree.ts';
import { damageOf } from './package-files.ts';

if (parentPort === null) throw new Error('install-worker runs in a thread only.');
const port = parentPort;

port.on('message', (request: InstallRequest) => {
  answer(request).then(
    (report) => port.postMessage(report),
    (error: unknown) => port.postMessage({ call: request.call, error: MetronomeError.from(error).toRecord() } satisfies InstallReport),
  );
});

async function answer(request: InstallRequest): Promise<InstallReport> {
  const { call } = request;
  switch (request.kind) {
    case 'install':
      return { call, installed: await installPackage(request.order) };
    case 'link':
      try {
        return { call, linked: linkTree(request.order) };
      } catch (error) {
        throw orDiskFull(error, 'The layer with the packages of the function');
      }
    case 'verify':
      return { call, damaged: request.keys.flatMap((key) => damageOf(request.store, key, request.digests) ?? []) };
  }
}
