/** Invocations in words: the one-line summary behind a result, the table of steps, results as JSON. */
import { formatMs } from '../../core/units.ts';
import { LocalityClass, ObjectRef, type Locality, type Phases } from '../../rpc/gen/metronome/v1/common.ts';
import { Invocation, InvocationState, InvokeResponse } from '../../rpc/gen/metronome/v1/invoke.ts';
import type { Column } from './table.ts';
import { localityText, msCell, startWord, stateWord } from './words.ts';

/** What an invocation waited for. */
export function waitedFor(phases: Phases | undefined): string {
  if (phases === undefined) return '';
  return [...(phases.delayedMs > 0 ? ['a better node'] : []), ...(phases.queuedMs > 0 ? ['room'] : [])].join(', ');
}

/** "node-2 · local 92% · queued 0 · … ms" on one line. */
export function summaryLine(response: InvokeResponse): string {
  const { phases, steps } = response;
  const parts: string[] = [];
  if (steps.length > 0) {
    const nodes = new Set(steps.map((step) => step.node)).size;
    parts.push(`${steps.length} ${steps.length === 1 ? 'step' : 'steps'} on ${nodes} ${nodes === 1 ? 'node' : 'nodes'}`);
  } else if (response.node !== '') parts.push(response.node);
  const locality = localityText(response.locality);
  if (locality !== '') parts.push(locality);
  if (phases !== undefined) {
    parts.push(formatMs(phases.totalMs));
    if (steps.length === 0) parts.push(phasesText(phases));
  }
  if (response.attempt > 1) parts.push(`attempt ${response.attempt}`);
  if (response.outputs.length > 0) parts.push(`${response.outputs.length} output ${response.outputs.length === 1 ? 'object' : 'objects'}`);
  parts.push(response.invocationId);
  return parts.join(' · ');
}

const START_NOTES: Readonly<Record<string, string>> = { cold: 'cold start', packages: 'packages were there', zygote: 'from a zygote', warm: 'warm' };

/** "predicted 0.20, delayed 12.3, initialised 45.0, ran 70.1 ms (cold start)"; what took no time is left out. */
export function phasesText(phases: Phases): string {
  const start = startWord(phases.startState);
  const parts = ([
    ['predicted', phases.predictedMs], ['queued', phases.queuedMs], ['delayed', phases.delayedMs], ['dispatched', phases.dispatchedMs],
    ['fetched', phases.fetchedMs], ['initialised', phases.initialisedMs], ['of that installed', phases.installedMs], ['started', phases.startedMs], ['loaded', phases.loadedMs], ['ran', phases.ranMs],
  ] as const).filter(([name, ms]) => ms >= 0.005 || name === 'ran').map(([name, ms]) => `${name} ${msCell(ms)}`);
  return `${parts.join(', ')} ms${start === '' ? '' : ` (${START_NOTES[start] ?? start})`}`;
}

/** What a payload says: JSON and text as such, anything else as base64. */
export function payloadValue(payload: Uint8Array, contentType: string): unknown {
  if (payload.byteLength === 0) return null;
  const text = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  if (contentType === '' || contentType.startsWith('application/json')) {
    try {
      return JSON.parse(text.toString('utf8')) as unknown;
    } catch {
      // A function may lie about its result; then it is shown as the bytes it is.
      return text.toString('base64');
    }
  }
  return contentType.startsWith('text/') ? text.toString('utf8') : text.toString('base64');
}

/** A response for `-o json`: as in the API, but with the payload readable. */
export function responseJson(response: InvokeResponse): Record<string, unknown> {
  return { ...(InvokeResponse.toJSON(response) as Record<string, unknown>), payload: payloadValue(response.payload, response.contentType) }; // toJSON of a message is an object
}

/** An invocation for `-o json`, likewise. */
export function invocationJson(invocation: Invocation): Record<string, unknown> {
  const json = Invocation.toJSON(invocation) as Record<string, unknown>; // toJSON of a message is an object
  return invocation.response === undefined ? json : { ...json, response: responseJson(invocation.response) };
}

/** Object references for humans and for `--input`. */
export function objectJson(reference: ObjectRef): unknown {
  return ObjectRef.toJSON(reference);
}

const number = (header: string, ms: (phases: Phases) => number): Column<Invocation> => ({ header, align: 'right', cell: ({ phases }) => (phases === undefined ? '' : msCell(ms(phases))) });

/** Columns for lists of invocations. */
export function invocationColumns(nowMs: number, age: (unixMs: number, nowMs: number) => string): readonly Column<Invocation>[] {
  return [
    { header: 'INVOCATION', whole: true, cell: ({ id }) => id },
    { header: 'FUNCTION', cell: ({ function: name }) => name },
    { header: 'STATE', cell: ({ state, delayingFor }) => (delayingFor === '' ? stateWord(state) : `${stateWord(state)} (${delayingFor})`) },
    { header: 'NODE', cell: ({ node }) => node },
    { header: 'LOCALITY', cell: ({ locality }) => localityText(locality) },
    number('TOTAL ms', (phases) => phases.totalMs),
    { header: 'AGE', align: 'right', cell: ({ arrivedAtUnixMs }) => age(arrivedAtUnixMs, nowMs) },
    { header: 'REASON', optional: true, cell: ({ reason }) => reason },
    { ...number('QUEUED', (phases) => phases.queuedMs), wide: true },
    { ...number('DELAYED', (phases) => phases.delayedMs), wide: true },
    { ...number('FETCHED', (phases) => phases.fetchedMs), wide: true },
    { ...number('INIT', (phases) => phases.initialisedMs), wide: true },
    { ...number('INSTALL', (phases) => phases.installedMs), wide: true },
    { ...number('START', (phases) => phases.startedMs), wide: true },
    { ...number('LOAD', (phases) => phases.loadedMs), wide: true },
    { ...number('RAN', (phases) => phases.ranMs), wide: true },
    { header: 'ATTEMPT', align: 'right', wide: true, cell: ({ attempt }) => String(attempt) },
    { header: 'POLICY', wide: true, cell: ({ policy }) => policy },
    { header: 'RUN', wide: true, cell: ({ workflowRunId, step }) => (workflowRunId === '' ? '' : `${workflowRunId} ${step}`) },
  ];
}

/** Steps in the order in which they began. */
export function byArrival(steps: readonly Invocation[]): Invocation[] {
  return [...steps].sort((a, b) => a.arrivedAtUnixMs - b.arrivedAtUnixMs || (a.id < b.id ? -1 : 1));
}

/** Columns for the steps of workflow runs; times in ms. */
export const STEP_COLUMNS: readonly Column<Invocation>[] = [
  { header: 'INVOCATION', whole: true, cell: ({ id }) => id },
  { header: 'STEP', optional: true, cell: ({ step }) => step },
  { header: 'FUNCTION', cell: ({ function: name }) => name },
  { header: 'NODE', cell: ({ node }) => node },
  { header: 'LOCALITY', cell: ({ locality }) => localityText(locality) },
  { header: 'WAITED FOR', optional: true, cell: ({ phases }) => waitedFor(phases) },
  number('QUEUED', (phases) => phases.queuedMs),
  number('DELAYED', (phases) => phases.delayedMs),
  number('FETCHED', (phases) => phases.fetchedMs),
  number('INIT', (phases) => phases.initialisedMs),
  number('RAN', (phases) => phases.ranMs),
  { header: 'START', optional: true, cell: ({ phases }) => (phases === undefined ? '' : startWord(phases.startState)) },
  { header: 'RESULT', cell: ({ state, error }) => (error !== undefined ? error.code : state === InvocationState.COMPLETED ? 'ok' : stateWord(state)) },
];

/** True when the node offered locality. */
export function isLocal(locality: Locality | undefined): boolean {
  return locality?.class === LocalityClass.LOCAL;
}
