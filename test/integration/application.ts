/** An application on a real system: agents as processes of their own, the manifest deployed with its packages, inputs and outputs as objects. */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { expect } from 'vitest';
import { deploy } from '../../src/cli/deploy.ts';
import { openObject } from '../../src/cli/objects.ts';
import { PROJECT_ROOT } from '../../src/cli/project.ts';
import { loadManifest } from '../../src/config/manifest.ts';
import { ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import type { InvokeResponse } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { loadApplication, type Application, type ApplicationInput, type RunOutcome } from '../../src/workload/applications.ts';
import { json, openCluster, valueOf, type TestCluster } from './harness.ts';

/** An input that lies on a node. */
export interface StoredInput extends ApplicationInput {
  readonly reference: ObjectRef;
}

/** A deployed application. */
export interface DeployedApplication {
  readonly cluster: TestCluster;
  readonly application: Application;
  /** Makes an input and stores it on a node; its file is gone then. */
  put(options: { readonly seed: number; readonly sizeBytes: number; readonly node: string }): Promise<StoredInput>;
  /** Runs the workflow, with the payload of the input by default, and reads what came out. */
  run(input: StoredInput, payload?: unknown): Promise<RunOutcome & { readonly response: InvokeResponse }>;
}

/** Starts three nodes with two slots each and deploys an application. */
export async function openApplication(name: string): Promise<DeployedApplication> {
  const cluster = await openCluster({ nodes: 3, slots: 2, processes: true });
  const { client, daemon } = cluster;
  const application = await loadApplication(name, join(PROJECT_ROOT, 'apps'));
  await deploy({ client, manifest: await loadManifest(application.folder), progress: () => {} });
  const inputs = cluster.scratch();
  await mkdir(inputs);
  return {
    cluster, application,
    async put({ seed, sizeBytes, node }) {
      const input = await application.makeInput({ seed, sizeBytes, dir: inputs });
      const answer = await fetch(`${daemon.httpUrl}/objects?node=${node}&name=${basename(input.path)}`, { method: 'POST', body: createReadStream(input.path), duplex: 'half', headers: { 'content-length': String(input.sizeBytes) } });
      expect(answer.status).toBe(201);
      await rm(input.path);
      return { ...input, reference: ObjectRef.fromJSON(await answer.json()) };
    },
    async run(input, payload = input.payload) {
      const response = await client.invoke({ function: application.workflow, payload: json(payload), inputs: [input.reference] }, { timeoutMs: 120_000 });
      const folder = cluster.scratch();
      await mkdir(folder);
      const outputs = await Promise.all(response.outputs.map(async (output) => {
        const path = join(folder, output.name);
        await pipeline((await openObject({ client }, output)).body, createWriteStream(path));
        return { name: output.name, path };
      }));
      return { response, result: valueOf(response), outputs };
    },
  };
}
