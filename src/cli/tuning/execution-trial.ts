/** Measures executions of a function or workflow with the sizes that are deployed. */
import { ERRORS, MetronomeError } from '../../core/errors.ts';
import type { Measurement } from '../../policy/resource-manager/resource-manager.ts';
import type { SchedulerClient } from '../../rpc/client.ts';
import type { PartialMessage } from '../../rpc/partial.ts';
import { StartState, type Phases } from '../../rpc/gen/metronome/v1/common.ts';
import type { InvokeRequest, InvokeResponse } from '../../rpc/gen/metronome/v1/invoke.ts';
import { summarise } from '../percentiles.ts';

/** What is measured. */
export interface TrialOptions {
  readonly client: SchedulerClient;
  readonly request: PartialMessage<InvokeRequest>;
  /** Names of the functions; times come by function in this order. */
  readonly functions: readonly string[];
  readonly slaMs: number;
  /** How many executions, one after the other. */
  readonly executions: number;
  readonly signal: AbortSignal;
}

/** Executions that come first, until one met nothing but warm sandboxes. */
const MOST_WARM_UPS = 3;
/** A cold start with little CPU takes long; packages may have to come, too. */
const WARM_UP_TIMEOUT_MS = 60_000;
/** What takes longer than so many latency targets is given up: it is as bad as never. */
const ENDLESS_SLAS = 10;

/** What did not end, and why. */
export interface FailedTrial {
  readonly failure: MetronomeError;
}

/**
 * Medians over the executions: latency from the request to the result, and by function the time of all its calls. A function that fails or takes too long is an answer (`failure`);
 * everything else that goes wrong rejects.
 */
export async function measureExecutions(options: TrialOptions): Promise<Measurement | FailedTrial> {
  const { client, request, functions, slaMs, executions, signal } = options;
  const execute = (timeoutMs: number): Promise<InvokeResponse> => client.invoke({ ...request, slaMs }, { signal, timeoutMs: Math.ceil(timeoutMs) });
  try {
    for (let i = 0; i < MOST_WARM_UPS && !callsOf(await execute(WARM_UP_TIMEOUT_MS + ENDLESS_SLAS * slaMs)).every(({ phases }) => phases.startState === StartState.WARM); i++);
    const latencies: number[] = [];
    const times = functions.map((): number[] => []);
    for (let i = 0; i < executions; i++) {
      const response = await execute(ENDLESS_SLAS * slaMs);
      latencies.push(response.phases?.totalMs ?? 0);
      const calls = callsOf(response);
      functions.forEach((name, stage) => times[stage]?.push(calls.reduce((sum, { function: called, phases }) => sum + (called === name || called === '' ? phases.fetchedMs + phases.initialisedMs + phases.ranMs : 0), 0)));
    }
    return { latencyMs: summarise(latencies).p50, stageMs: times.map((each) => summarise(each).p50) };
  } catch (thrown) {
    const failure = MetronomeError.from(thrown);
    if (signal.aborted || (ERRORS[failure.code].fault !== 'function' && failure.code !== 'DEADLINE_EXCEEDED')) throw failure;
    return { failure };
  }
}

/** The calls of functions that an execution consists of; a function by itself is one, without a name. */
function callsOf({ steps, phases }: InvokeResponse): { readonly function: string; readonly phases: Phases }[] {
  if (steps.length > 0) return steps.flatMap((step) => (step.phases === undefined ? [] : [{ function: step.function, phases: step.phases }]));
  return phases === undefined ? [] : [{ function: '', phases }];
}
