/** What is emulated, by what, and how it is labelled: the wish, held against what this machine can do. Pure. */
import { rateText } from '../../../config/fields.ts';
import { MetronomeError } from '../../../core/errors.ts';
import type { Capabilities, Missing } from './capabilities.ts';

/** What is wanted. */
export interface EmulationRequest {
  /** Rate of every node's link, each direction, bits per second; 0: none. */
  readonly linkBitsPerS: number;
  /** Delay of every link, one way, ms; 0: none. */
  readonly latencyMs: number;
  /** CPUs of every node; 0: no quota. */
  readonly cpus: number;
  /** "namespaces": by the kernel or not at all; "data-plane": by the agents; "auto": by the kernel if it can. */
  readonly mode: 'auto' | 'namespaces' | 'data-plane';
}

/** What is done. */
export interface EmulationPlan {
  readonly network: 'namespaces' | 'data-plane' | 'none';
  /** Delay that the kernel makes, ms. */
  readonly netemMs: number;
  /** Whether nodes get control groups with a quota. */
  readonly quota: boolean;
  /** Labels of every node. */
  readonly labels: Readonly<Record<string, string>>;
  /** Further arguments of every agent. */
  readonly agentArgs: readonly string[];
  /** What is not as wanted, for people: what is missing and what to do. */
  readonly notes: readonly string[];
}

/** True if there is anything to emulate. */
export function isWanted({ linkBitsPerS, latencyMs, cpus }: EmulationRequest): boolean {
  return linkBitsPerS > 0 || latencyMs > 0 || cpus > 0;
}

/** Decides. CONFIG_INVALID when the kernel is insisted on and cannot. `machineCpus`: CPUs of this machine. */
export function planEmulation(request: EmulationRequest, can: Capabilities, nodes: number, machineCpus: number): EmulationPlan {
  const { linkBitsPerS, latencyMs, cpus, mode } = request;
  const wantsNetwork = linkBitsPerS > 0 || latencyMs > 0;
  const labels: Record<string, string> = {};
  const agentArgs: string[] = [];
  const notes: string[] = [];
  let network: EmulationPlan['network'] = 'none';
  let netemMs = 0;

  if (wantsNetwork) {
    network = mode !== 'data-plane' && can.network.length === 0 ? 'namespaces' : 'data-plane';
    if (mode === 'namespaces' && network !== 'namespaces') throw new MetronomeError('CONFIG_INVALID', `Links cannot be emulated by the kernel here. Missing: ${describe(can.network)}. With --emulation auto the data plane is shaped instead.`);
    if (mode === 'auto' && network !== 'namespaces') notes.push(`Links are shaped in the agents' data plane, not by the kernel: objects between nodes are slowed, requests and results are not. Missing: ${describe(can.network)}.`);
  }
  if (linkBitsPerS > 0) {
    labels['link'] = `${rateText(linkBitsPerS)} (${network === 'namespaces' ? 'kernel' : 'data plane'})`;
    if (network === 'data-plane') agentArgs.push('--link-bytes-per-s', String(Math.round(linkBitsPerS / 8)));
    else agentArgs.push('--link-rate', String(linkBitsPerS)); // the cable itself claims more
  }
  if (latencyMs > 0) {
    const byKernel = network === 'namespaces' && can.netem;
    if (byKernel) netemMs = latencyMs;
    else agentArgs.push('--link-latency', `${latencyMs}ms`);
    if (!byKernel && network === 'namespaces') notes.push('The latency is added in the agents\' data plane, to exchanges of objects only: this kernel cannot delay packets (sudo modprobe sch_netem, where the module exists).');
    labels['latency'] = `${latencyMs}ms (${byKernel ? 'kernel' : 'data plane'})`;
  }
  const quota = cpus > 0 && can.quota.length === 0;
  if (cpus > 0) {
    labels['cpus'] = quota ? `${cpus} (quota)` : `all (${cpus} wanted)`;
    if (!quota) notes.push(`The nodes' CPUs are not limited. Missing: ${describe(can.quota)}.`);
    else if (cpus * nodes > machineCpus) notes.push(`${nodes} nodes with ${cpus} CPUs each are more than the ${machineCpus} of this machine: under full load no node gets all of its quota.`);
  }
  return { network, netemMs, quota, labels, agentArgs, notes };
}

function describe(missing: readonly Missing[]): string {
  return missing.map(({ what, fix }) => `${what} — ${fix}`).join('; ');
}
