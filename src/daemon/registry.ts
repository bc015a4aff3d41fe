/** What is deployed: functions and workflows, kept in the store and known to the scheduler. One namespace for both. */
import { createHash } from 'node:crypto';
import { countPackages } from '../config/lockfile.ts';
import { isForPlatform, packageId, platformHere, sealLock, validatePackageLock } from '../config/package-lock.ts';
import { validateFunctionSpec, validateWorkflowSpec } from '../config/spec.ts';
import { importNeedOf } from '../core/zygote-distance.ts';
import { MetronomeError, suggest } from '../core/errors.ts';
import { isPolicyName, unknownPolicy } from '../policy/registry.ts';
import type { FunctionProfile } from '../predictor/predictor.ts';
import { FunctionMessage, FunctionSpec, type ApplyFunctionRequest, type ApplyFunctionResponse } from '../rpc/gen/metronome/v1/function.ts';
import { Workflow, WorkflowSpec, type ApplyWorkflowRequest, type ApplyWorkflowResponse } from '../rpc/gen/metronome/v1/workflow.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { Store } from '../store/store.ts';
import type { Links } from './links.ts';

export interface RegistryOptions {
  readonly store: Store;
  readonly scheduler: Scheduler;
  readonly links: Links;
  readonly maxFunctions: number;
  readonly nowMs: () => number;
}

const sha256 = (...parts: readonly Uint8Array[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
};

export class Registry {
  readonly functions = new Map<string, FunctionMessage>();
  readonly workflows = new Map<string, Workflow>();
  readonly #options: RegistryOptions;

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  /** Brings back what the store remembers. STATE_CORRUPT if it cannot be read. */
  async load(): Promise<void> {
    const { store } = this.#options;
    for (const { name, bytes } of await store.listFunctions()) this.#know(decode(name, () => FunctionMessage.decode(bytes)));
    for (const { name, bytes } of await store.listWorkflows()) this.workflows.set(name, decode(name, () => Workflow.decode(bytes)));
  }

  /** The kind of a name, or the error that it is unknown, with a suggestion. */
  kindOf(name: string): 'function' | 'workflow' {
    if (this.functions.has(name)) return 'function';
    if (this.workflows.has(name)) return 'workflow';
    throw this.unknown(name);
  }

  unknown(name: string): MetronomeError {
    const near = suggest(name, [...this.functions.keys(), ...this.workflows.keys()]);
    return new MetronomeError('FUNCTION_NOT_FOUND', `There is no function or workflow "${name}".${near === undefined ? ' `metronome function list` shows what is deployed.' : ` Did you mean "${near}"?`}`, { component: 'scheduler' });
  }

  async applyFunction(request: ApplyFunctionRequest): Promise<ApplyFunctionResponse> {
    const { spec } = request;
    if (spec === undefined) throw new MetronomeError('INVALID_REQUEST', 'The request has no spec.', { violations: [{ field: 'spec', description: 'is required' }] });
    const violations = validateFunctionSpec(spec);
    if (request.lock !== undefined) violations.push(...validatePackageLock(request.lock, spec.runtime));
    if (violations.length > 0) throw invalid(`The function "${spec.name}" is not valid`, violations);
    if (spec.policy !== '' && !isPolicyName(spec.policy)) throw unknownPolicy(spec.policy);
    if (this.workflows.has(spec.name)) throw new MetronomeError('NAME_TAKEN', `"${spec.name}" is a workflow; functions and workflows share one namespace.`);
    const known = this.functions.get(spec.name);
    if (known === undefined) this.#room();
    if (request.bundle.length === 0 && known === undefined) throw new MetronomeError('INVALID_REQUEST', `The function "${spec.name}" is new and the request has no code.`, { violations: [{ field: 'bundle', description: 'is required for a new function' }] });
    const bundle = Uint8Array.from(request.bundle);
    const digest = bundle.length === 0 ? (known?.bundleDigest ?? '') : sha256(bundle);
    // Code that comes without a lock has no packages; without code, those that it has are meant.
    const lock = request.lock !== undefined && request.lock.packages.length > 0 ? sealLock(request.lock) : bundle.length === 0 ? known?.lock : undefined;
    const version = sha256(FunctionSpec.encode(spec).finish(), Buffer.from(digest), Buffer.from(lock?.digest ?? '')).slice(0, 16);
    if (known?.version === version) return { function: known, changed: false };
    const definition: FunctionMessage = { spec, version, bundleDigest: digest, bundleBytes: bundle.length === 0 ? (known?.bundleBytes ?? 0) : bundle.length, appliedAtUnixMs: this.#options.nowMs(), lock };
    if (request.dryRun) return { function: definition, changed: true };
    const { store } = this.#options;
    if (bundle.length > 0) await store.putBundle(digest, bundle);
    await store.putFunction(spec.name, FunctionMessage.encode(definition).finish(), digest);
    this.#know(definition);
    return { function: definition, changed: true };
  }

  async deleteFunction(name: string): Promise<void> {
    if (!this.functions.has(name)) throw this.unknown(name);
    for (const workflow of this.workflows.values()) {
      if (workflow.spec?.steps.some((step) => step.function === name) === true) throw new MetronomeError('IN_USE', `The workflow "${workflow.spec.name}" calls the function "${name}"; delete the workflow first.`);
    }
    await this.#options.store.deleteFunction(name);
    this.functions.delete(name);
    this.#options.scheduler.deleteFunction(name);
    this.#options.links.undefine(name);
  }

  async applyWorkflow(request: ApplyWorkflowRequest): Promise<ApplyWorkflowResponse> {
    const { spec } = request;
    if (spec === undefined) throw new MetronomeError('INVALID_REQUEST', 'The request has no spec.', { violations: [{ field: 'spec', description: 'is required' }] });
    const violations = validateWorkflowSpec(spec);
    spec.steps.forEach((step, i) => {
      if (step.function !== '' && !this.functions.has(step.function)) violations.push({ field: `spec.steps[${i}].function`, description: `there is no function "${step.function}"; apply it first` });
    });
    if (violations.length > 0) throw invalid(`The workflow "${spec.name}" is not valid`, violations);
    if (this.functions.has(spec.name)) throw new MetronomeError('NAME_TAKEN', `"${spec.name}" is a function; functions and workflows share one namespace.`);
    const known = this.workflows.get(spec.name);
    if (known === undefined) this.#room();
    const version = sha256(WorkflowSpec.encode(spec).finish()).slice(0, 16);
    if (known?.version === version) return { workflow: known, changed: false };
    const workflow: Workflow = { spec, version, appliedAtUnixMs: this.#options.nowMs() };
    if (request.dryRun) return { workflow, changed: true };
    await this.#options.store.putWorkflow(spec.name, Workflow.encode(workflow).finish());
    this.workflows.set(spec.name, workflow);
    return { workflow, changed: true };
  }

  async deleteWorkflow(name: string): Promise<void> {
    if (!this.workflows.has(name)) throw new MetronomeError('WORKFLOW_NOT_FOUND', `There is no workflow "${name}".`);
    await this.#options.store.deleteWorkflow(name);
    this.workflows.delete(name);
  }

  #room(): void {
    if (this.functions.size + this.workflows.size >= this.#options.maxFunctions) throw new MetronomeError('QUEUE_FULL', `There are ${this.#options.maxFunctions} functions and workflows already (limits.maxFunctions).`);
  }

  #know(definition: FunctionMessage): void {
    const { spec } = definition;
    if (spec === undefined) return;
    this.functions.set(spec.name, definition);
    this.#options.links.define(definition);
    this.#options.scheduler.putFunction({
      name: spec.name, version: definition.version, packageSet: definition.lock?.digest ?? definition.bundleDigest, slaMs: spec.slaMs, timeoutMs: spec.timeoutMs, concurrency: spec.concurrency,
      idempotent: spec.idempotent, retries: spec.retries, policy: spec.policy, localityKey: spec.localityKey, reuse: spec.reuse, isolation: spec.isolation,
      memoryMb: spec.memoryMb, critical: spec.critical, zygote: { runtime: spec.runtime, isolation: spec.isolation, network: spec.network, imports: importNeedOf(definition.lock?.packages ?? []) },
      packages: packagesOf(definition), profile: profileOf(definition),
    });
  }
}

/** Ids of what a node must have; packages for other platforms than this one are taken for such as no node needs. */
function packagesOf({ lock }: FunctionMessage): string[] {
  const here = platformHere();
  return (lock?.packages ?? []).filter((one) => !one.optional || isForPlatform(one, here)).map(packageId);
}

/** What predictions may know of a function before it ever ran. */
function profileOf({ spec, lock }: FunctionMessage): FunctionProfile {
  const packages = lock?.packages ?? [];
  // As the command line counts them, so that both say the same of one function.
  const dependencies = lock === undefined ? (spec?.dependencyCount ?? 0) : countPackages(lock);
  return {
    application: spec?.labels.app ?? '', memoryMb: spec?.memoryMb ?? 0, runtime: spec?.runtime ?? '', dependencies,
    packageBytes: packages.reduce((bytes, { unpackedBytes }) => bytes + unpackedBytes, 0),
  };
}

function invalid(what: string, violations: readonly { field: string; description: string }[]): MetronomeError {
  return new MetronomeError('INVALID_REQUEST', `${what}: ${violations.map(({ field, description }) => `${field} ${description}`).join('; ')}.`, { component: 'scheduler', violations });
}

function decode<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new MetronomeError('STATE_CORRUPT', `The stored definition of "${name}" cannot be read; apply it again with an empty data directory.`, { cause: error });
  }
}
