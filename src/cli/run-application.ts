/** One run of an application on an input that lies in the cluster: invokes its workflow, fetches what came out, and checks it against what the maker knows. */
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { SchedulerClient } from '../rpc/client.ts';
import type { ObjectRef } from '../rpc/gen/metronome/v1/common.ts';
import type { InvokeResponse } from '../rpc/gen/metronome/v1/invoke.ts';
import type { Application, ApplicationInput } from '../workload/applications.ts';
import { openObject } from './objects.ts';

/** What to run. */
export interface ApplicationRunOptions {
  readonly client: SchedulerClient;
  readonly application: Application;
  readonly input: ApplicationInput;
  /** The input as an object. */
  readonly reference: ObjectRef;
  /** @default that of the input */
  readonly payload?: unknown;
  /** Folder for what is fetched; nothing stays there. */
  readonly dir: string;
  /** @default that of the workflow */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** A run that came to its end. */
export interface ApplicationRun {
  readonly response: InvokeResponse;
  /** The parsed result. */
  readonly result: unknown;
  /** What is wrong with it; nothing if it is right. */
  readonly problems: readonly string[];
}

/** Rejects when the workflow fails or an output cannot be fetched; a wrong result is not an error, but has problems. */
export async function runApplication(options: ApplicationRunOptions): Promise<ApplicationRun> {
  const { client, application, input, reference, payload = input.payload, timeoutMs, signal } = options;
  const call = { ...(timeoutMs === undefined ? {} : { timeoutMs }), ...(signal === undefined ? {} : { signal }) };
  const response = await client.invoke({ function: application.workflow, payload: Buffer.from(JSON.stringify(payload)), inputs: [reference] }, call);
  return { response, ...(await checkRun({ client, input, dir: options.dir, ...(signal === undefined ? {} : { signal }) }, response)) };
}

/** Fetches what came out of a run and holds it against what the maker of the input knows. Rejects when an output cannot be fetched. */
export async function checkRun({ client, input, dir, signal }: Pick<ApplicationRunOptions, 'client' | 'input' | 'dir' | 'signal'>, response: InvokeResponse): Promise<Omit<ApplicationRun, 'response'>> {
  const result: unknown = JSON.parse(Buffer.from(response.payload).toString('utf8') || 'null');
  const folder = await mkdtemp(join(dir, 'run-'));
  try {
    const outputs = [];
    for (const [i, output] of response.outputs.entries()) {
      const path = join(folder, String(i)); // names come from functions
      await pipeline((await openObject({ client, ...(signal === undefined ? {} : { signal }) }, output)).body, createWriteStream(path));
      outputs.push({ name: output.name, path });
    }
    return { result, problems: await input.verify({ result, outputs }) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
