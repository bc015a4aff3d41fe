/** What the agent's tests share: agents in temporary directories, bundles of the fixtures, and a client that speaks gRPC as the scheduler does. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { credentials, type ClientDuplexStream, type ClientReadableStream } from '@grpc/grpc-js';
import { create } from 'tar';
import { startAgent, type AgentOptions, type RunningAgent } from '../../src/agent/agent.ts';
import { AgentServiceClient, type DispatchCommand, type DispatchEvent, type DispatchRequest, type DispatchResponse, type Execute, type Result, type WatchStateResponse } from '../../src/rpc/gen/metronome/v1/agent.ts';
import type { ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import { FunctionMessage, FunctionSpec } from '../../src/rpc/gen/metronome/v1/function.ts';

export const silent = { info: () => {}, warn: () => {}, error: () => {} };

export interface Bundle {
  readonly bytes: Uint8Array;
  readonly digest: string;
}

const bundles = new Map<string, Promise<Bundle>>();

/** The bundle of a folder under fixtures. */
export function fixtureBundle(folder: 'node' | 'python'): Promise<Bundle> {
  let bundle = bundles.get(folder);
  if (bundle === undefined) {
    bundle = packed(fileURLToPath(new URL(`./fixtures/${folder}`, import.meta.url)));
    bundles.set(folder, bundle);
  }
  return bundle;
}

export async function packed(cwd: string): Promise<Bundle> {
  const chunks: Buffer[] = [];
  for await (const chunk of create({ gzip: true, portable: true, cwd, filter: (path) => !path.includes('__pycache__') }, ['.'])) chunks.push(chunk as Buffer);
  return bundleOf(Buffer.concat(chunks));
}

export function bundleOf(bytes: Uint8Array): Bundle {
  return { bytes, digest: createHash('sha256').update(bytes).digest('hex') };
}

/** A temporary directory that `using` removes. */
export async function tempDir(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'metronome-agent-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) };
}

export interface TestAgent extends AsyncDisposable {
  readonly agent: RunningAgent;
  readonly dir: string;
  readonly client: TestClient;
  /** Digests that were fetched. */
  readonly fetched: string[];
}

/** An agent with a client; both end with the scope. */
export async function testAgent(options: Partial<AgentOptions> = {}): Promise<TestAgent> {
  const dir = await tempDir();
  const fetched: string[] = [];
  const known = await Promise.all([fixtureBundle('node'), fixtureBundle('python')]);
  const agent = await startAgent({
    name: 'node-1', host: '127.0.0.1', grpcPort: 0, dataPort: 0, schedulerAddress: undefined, slots: 4, memoryMb: 2048, dataDir: dir.path, keepAliveMs: 60_000,
    pushIntervalMs: 50, objectQuotaBytes: 64 * 1024 ** 2, maxResultBytes: 1024 ** 2, logBytes: 65_536, log: silent,
    fetchBundle: async (digest) => {
      fetched.push(digest);
      const found = known.find((bundle) => bundle.digest === digest);
      if (found === undefined) throw new Error(`no bundle ${digest}`);
      return found.bytes;
    },
    ...options,
  });
  const client = new TestClient(agent.grpcAddress);
  return {
    agent, dir: dir.path, client, fetched,
    async [Symbol.asyncDispose]() {
      client.close();
      await agent.stop();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** A definition of a fixture function: "hello.mjs#noop" or "hello.py#handler". */
export async function defineFunction(handler: string, spec: Partial<FunctionSpec> = {}, message: Partial<FunctionMessage> = {}): Promise<FunctionMessage> {
  const isPython = /\.py(#|$)/.test(handler);
  const bundle = await fixtureBundle(isPython ? 'python' : 'node');
  return FunctionMessage.fromPartial({
    spec: { name: handler.replaceAll(/[^a-z0-9]+/gi, '-').toLowerCase(), runtime: isPython ? 'python3' : 'node', handler, memoryMb: 128, cpu: 1, timeoutMs: 20_000, slaMs: 1_000, reuse: true, ...spec },
    version: message.version ?? '1',
    bundleDigest: message.bundleDigest ?? bundle.digest,
    bundleBytes: bundle.bytes.length,
    appliedAtUnixMs: message.appliedAtUnixMs ?? 1,
  });
}

/** Everything that was heard of one invocation. */
export interface Heard {
  readonly events: DispatchEvent[];
  readonly result: Result;
}

let counter = 0;

/** A scheduler's side of Dispatch and WatchState. */
export class TestClient {
  readonly stub: AgentServiceClient;
  readonly events: DispatchEvent[] = [];
  readonly states: WatchStateResponse[] = [];
  #dispatch: ClientDuplexStream<DispatchRequest, DispatchResponse>;
  #watch: ClientReadableStream<WatchStateResponse> | undefined;
  #listeners = new Set<() => void>();

  constructor(address: string) {
    this.stub = new AgentServiceClient(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1, 'grpc.max_receive_message_length': 64 * 1024 ** 2, 'grpc.max_send_message_length': 64 * 1024 ** 2 });
    this.#dispatch = this.open();
  }

  /** Opens a Dispatch stream, which replaces the former one. */
  open(): ClientDuplexStream<DispatchRequest, DispatchResponse> {
    const stream = this.stub.dispatch();
    stream.on('data', ({ events }: DispatchResponse) => {
      this.events.push(...events);
      for (const listener of this.#listeners) listener();
    });
    stream.on('error', () => {});
    this.#dispatch = stream;
    return stream;
  }

  /** Breaks the Dispatch stream. */
  breakStream(): void {
    this.#dispatch.cancel();
  }

  watch(intervalMs = 50): void {
    this.#watch = this.stub.watchState({ intervalMs });
    this.#watch.on('data', (state: WatchStateResponse) => {
      this.states.push(state);
      for (const listener of this.#listeners) listener();
    });
    this.#watch.on('error', () => {});
  }

  send(execute: Partial<Execute> & { readonly definition?: FunctionMessage | undefined }): string {
    const invocationId = execute.invocationId ?? `inv-${++counter}`;
    this.#dispatch.write({
      commands: [{
        execute: {
          attempt: 1, function: execute.definition?.spec?.name ?? '', version: execute.definition?.version ?? '', payload: Buffer.alloc(0), contentType: 'application/json',
          inputs: [], holderUrls: {}, deadlineUnixMs: 0, traceparent: '', definition: undefined, owner: '', ownerTtlMs: 0, ...execute, invocationId,
        },
      }],
    });
    return invocationId;
  }

  cancel(invocationId: string): void {
    this.command({ cancel: invocationId });
  }

  command(command: DispatchCommand): void {
    this.#dispatch.write({ commands: [command] });
  }

  acknowledge(invocationId: string): void {
    this.#dispatch.write({ commands: [{ acknowledge: invocationId }] });
  }

  /** Resolves when `ready` gives something; asked again at every message. */
  until<T>(ready: () => T | undefined | false, what = 'the expected message', timeoutMs = 20_000): Promise<T> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        const value = ready();
        if (value === undefined || value === false) return;
        this.#listeners.delete(check);
        clearTimeout(timer);
        resolve(value);
      };
      const timer = setTimeout(() => {
        this.#listeners.delete(check);
        reject(new Error(`${what} did not come within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#listeners.add(check);
      check();
    });
  }

  eventsOf(invocationId: string): DispatchEvent[] {
    return this.events.filter((event) => event.invocationId === invocationId);
  }

  resultOf(invocationId: string): Promise<Result> {
    return this.until(() => this.eventsOf(invocationId).find(({ result }) => result !== undefined)?.result, `the result of ${invocationId}`);
  }

  startOf(invocationId: string): Promise<DispatchEvent> {
    return this.until(() => this.eventsOf(invocationId).find(({ started }) => started !== undefined), `the start of ${invocationId}`);
  }

  /** Runs a function to its end and acknowledges it. */
  async run(definition: FunctionMessage, event: unknown = {}, more: Partial<Execute> = {}): Promise<Heard> {
    const id = this.send({ definition, payload: Buffer.from(JSON.stringify(event)), ...more });
    const result = await this.resultOf(id);
    this.acknowledge(id);
    return { events: this.eventsOf(id), result };
  }

  close(): void {
    this.#dispatch.cancel();
    this.#watch?.cancel();
    this.stub.close();
  }
}

/** The payload of a result as JSON. */
export function json(result: Result): unknown {
  if (result.error !== undefined) throw new Error(`${result.error.code}: ${result.error.message}`);
  return result.payload.length === 0 ? null : JSON.parse(result.payload.toString());
}

/** Puts an object into an agent over HTTP. */
export async function putObject(dataUrl: string, name: string, content: Uint8Array | string): Promise<ObjectRef> {
  const response = await fetch(`${dataUrl}/objects`, { method: 'PUT', headers: { 'x-object-name': name }, body: content as string });
  if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`);
  return (await response.json()) as ObjectRef;
}

/** True while a process exists and is no zombie. */
export function lives(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !'ZX'.includes(stat[stat.lastIndexOf(')') + 2] ?? 'X');
  } catch {
    return false;
  }
}

/** The text of a file once something is in it. */
export async function whenWritten(path: string, timeoutMs = 20_000): Promise<string> {
  for (const until = Date.now() + timeoutMs; Date.now() < until; await new Promise((resolve) => setTimeout(resolve, 5))) {
    if (!existsSync(path)) continue;
    const text = readFileSync(path, 'utf8');
    if (text !== '') return text;
  }
  throw new Error(`${path} was not written within ${timeoutMs} ms`);
}
