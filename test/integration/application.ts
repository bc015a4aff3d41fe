/** An application on a real system: agents as processes of their own, the manifest deployed with its packages, inputs and outputs as objects. */
import { mkdir, rm } from 'node:fs/promises';
import { deploy } from '../../src/cli/deploy.ts';
import { putFile } from '../../src/cli/objects.ts';
import { PROJECT_ROOT } from '../../src/cli/project.ts';
import { runApplication, type ApplicationRun } from '../../src/cli/run-application.ts';
import { loadManifest } from '../../src/config/manifest.ts';
import type { ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import type { FunctionSpec } from '../../src/rpc/gen/metronome/v1/function.ts';
import { loadApplication, type ApplicationInput, type ApplicationName } from '../../src/workload/applications.ts';
import { openCluster, type TestCluster } from './harness.ts';

/** An input that lies on a node. */
export interface StoredInput {
  readonly input: ApplicationInput;
  readonly reference: ObjectRef;
}

/** A deployed application. */
export interface DeployedApplication {
  readonly cluster: TestCluster;
  /** Makes an input and stores it on a node; its file is gone then. */
  put(options: { readonly seed: number; readonly sizeBytes: number; readonly node: string }): Promise<StoredInput>;
  /** Runs the workflow, with the payload of the input by default, and checks what came out. */
  run(stored: StoredInput, payload?: unknown): Promise<ApplicationRun>;
}

/** Starts three nodes with two slots each and deploys an application. */
export async function openApplication(name: ApplicationName): Promise<DeployedApplication> {
  const cluster = await openCluster({ nodes: 3, slots: 2, processes: true });
  try {
    return await deployApplication(cluster, name);
  } catch (error) {
    await cluster.close();
    throw error;
  }
}

/** Deploys an application to a system that runs. */
export async function deployApplication(cluster: TestCluster, name: ApplicationName, more: Partial<FunctionSpec> = {}): Promise<DeployedApplication> {
  const { client, daemon } = cluster;
  const application = await loadApplication(name, `${PROJECT_ROOT}/apps`);
  const manifest = await loadManifest(application.folder);
  const dir = cluster.scratch();
  await mkdir(dir);
  await deploy({ client, manifest: { ...manifest, functions: manifest.functions.map((each) => ({ ...each, spec: { ...each.spec, ...more } })) }, progress: () => {} });
  return {
    cluster,
    async put({ seed, sizeBytes, node }) {
      const input = await application.makeInput({ seed, sizeBytes, dir });
      const reference = await putFile({ client, gatewayUrl: daemon.httpUrl, node }, input.path, '/');
      await rm(input.path);
      return { input, reference };
    },
    run: ({ input, reference }, payload = input.payload) => runApplication({ client, application, input, reference, payload, dir, timeoutMs: 120_000 }),
  };
}
