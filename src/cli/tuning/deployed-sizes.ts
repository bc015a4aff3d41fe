/** CPU and memory of the functions behind a name: changed by deploying them again with their code as it is, and put back. */
import { MetronomeError } from '../../core/errors.ts';
import type { StageSize } from '../../policy/resource-manager/resource-manager.ts';
import type { SchedulerClient } from '../../rpc/client.ts';
import type { FunctionSpec } from '../../rpc/gen/metronome/v1/function.ts';
import { NodeStatus, type Node } from '../../rpc/gen/metronome/v1/node.ts';

/** A function whose size may be changed. */
interface SizedFunction {
  /** As it was at the beginning. */
  readonly spec: FunctionSpec;
  /** The version that we deployed, or found; undefined while a deployment is under way or after one of which we do not know how it ended. */
  version: string | undefined;
}

/** The functions of a workflow, or one function, and their sizes. */
export interface DeployedSizes {
  /** In the order in which the workflow names them, each once. */
  readonly functions: readonly { readonly spec: FunctionSpec }[];
  /** Sizes at the beginning, by function. */
  readonly before: readonly StageSize[];
  /** The latency target of the whole, as deployed. */
  readonly slaMs: number;
  /** Deploys these sizes, by function. From the next invocation on they hold: idle sandboxes of another size end. */
  apply(sizes: readonly StageSize[]): Promise<void>;
  /** Deploys the sizes of the beginning. Answers with the functions that it left alone, because somebody else had deployed them meanwhile. */
  restore(): Promise<readonly string[]>;
}

/** Not for ever, when the scheduler is gone; and not until Ctrl-C: a deployment that was cancelled half-way may have happened. */
const TIMEOUT_MS = 10_000;

/** Looks the name up. FUNCTION_NOT_FOUND if nothing is called so. */
export async function openDeployedSizes(client: SchedulerClient, name: string, signal: AbortSignal): Promise<DeployedSizes> {
  const workflow = await client.getWorkflow({ name }, { signal }).then((found) => found.workflow?.spec, (error: unknown) => {
    if (MetronomeError.from(error).code === 'WORKFLOW_NOT_FOUND') return undefined;
    throw error;
  });
  const names = workflow === undefined ? [name] : [...new Set(workflow.steps.map((step) => step.function))];
  const functions: SizedFunction[] = [];
  for (const each of names) {
    const { function: found } = await client.getFunction({ name: each }, { signal });
    if (found?.spec === undefined) throw new MetronomeError('FUNCTION_NOT_FOUND', `There is no function "${each}".`);
    functions.push({ spec: found.spec, version: found.version });
  }
  // No bundle, no lock: the function keeps what it has.
  const deploy = async (each: SizedFunction, { cpu, memoryMb }: StageSize): Promise<void> => {
    each.version = undefined;
    const { function: stored } = await client.applyFunction({ spec: { ...each.spec, cpu, memoryMb } }, { timeoutMs: TIMEOUT_MS });
    each.version = stored?.version;
  };
  return {
    functions,
    before: functions.map(({ spec: { cpu, memoryMb } }) => ({ cpu, memoryMb })),
    slaMs: workflow?.slaMs ?? (functions[0] as SizedFunction).spec.slaMs, // a function by itself
    async apply(sizes) {
      for (const [i, each] of functions.entries()) await deploy(each, sizes[i] as StageSize); // one per function
    },
    async restore() {
      const left: string[] = [];
      const errors: unknown[] = [];
      for (const each of functions) {
        try {
          const { function: now } = await client.getFunction({ name: each.spec.name }, { timeoutMs: TIMEOUT_MS });
          if (each.version === undefined || now?.version === each.version) await deploy(each, each.spec);
          else left.push(each.spec.name);
        } catch (error) {
          errors.push(error); // the others get theirs all the same
        }
      }
      if (errors.length > 0) throw errors[0];
      return left;
    },
  };
}

/** Throws unless each function's sandboxes get no more than its size on every node where it may run. */
export function requireLimits(functions: readonly { readonly spec: FunctionSpec }[], nodes: readonly Node[]): void {
  const ready = nodes.filter(({ status }) => status === NodeStatus.READY);
  if (ready.length === 0) throw new MetronomeError('NO_NODES', 'No node is ready. `metronome node list` shows what the scheduler knows.');
  for (const { spec: { name, isolation } } of functions) {
    for (const node of ready) {
      const offered = node.isolation.length === 0 ? ['process'] : node.isolation;
      const kind = isolation === '' ? offered[0] as string : isolation; // there is one
      if (!offered.includes(kind) || (node.labels['limits'] ?? '').split('+').includes(kind)) continue;
      throw new MetronomeError('CONFIG_INVALID', `On "${node.name}" nothing holds "${name}" to its CPU and memory (isolation ${kind}), so there is nothing to tune. Start the agents with agent.limits "all" (METRONOME_AGENT__LIMITS=all), as root or as systemd units with Delegate=yes; \`metronome node list -o wide\` shows the label "limits".`);
    }
  }
}
