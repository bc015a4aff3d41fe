/** Decisions in readable prose, with the table of candidates that they rested on. */
import { INVOCATION_STATES } from '../../core/invocation.ts';
import { formatBytes, formatMs } from '../../core/units.ts';
import { guardsOf } from '../../inspect/guards.ts';
import { DecisionAction, type Candidate, type Decision, type ExplainResponse } from '../../rpc/gen/metronome/v1/inspect.ts';
import { InvocationState } from '../../rpc/gen/metronome/v1/invoke.ts';
import { LocalityClass, StartState } from '../../rpc/gen/metronome/v1/common.ts';
import { renderTable, type Column } from './table.ts';
import { classWord, isOver, localityText, msCell, percent, reasonText, startWord, stateWord } from './words.ts';

/** The columns of candidates. */
const CANDIDATE_COLUMNS: readonly Column<Candidate & { readonly chosen: boolean }>[] = [
  { header: '', cell: ({ chosen }) => (chosen ? '→' : '') },
  { header: 'NODE', cell: ({ node }) => node },
  { header: 'CLASS', cell: ({ locality }) => classWord(locality?.class ?? LocalityClass.UNSPECIFIED) },
  { header: 'DEGREE', align: 'right', cell: ({ locality }) => percent(locality?.degree ?? 0) },
  { header: 'DATA', align: 'right', cell: ({ locality }) => percent(locality?.data ?? 0) },
  { header: 'INFRA', align: 'right', cell: ({ locality }) => percent(locality?.infrastructure ?? 0) },
  { header: 'PREDICTED ms', align: 'right', cell: ({ predictedMs, spreadMs }) => `${msCell(predictedMs)} ± ${msCell(spreadMs)}` },
  { header: 'P95 ms', align: 'right', cell: ({ p95Ms }) => msCell(p95Ms) },
  { header: 'WAIT ms', align: 'right', cell: ({ expectedWaitMs }) => msCell(expectedWaitMs) },
  { header: 'ROOM', align: 'right', cell: ({ room }) => String(room) },
  { header: 'LOAD', align: 'right', cell: ({ load }) => percent(load) },
  { header: 'START', cell: ({ startState, zygoteDistance }) => `${startWord(startState)}${startState === StartState.ZYGOTE && zygoteDistance > 0 ? ` at ${percent(zygoteDistance)}` : ''}` },
  { header: 'MISSING', align: 'right', cell: ({ missingBytes }) => (missingBytes === 0 ? '' : formatBytes(missingBytes)) },
];

/** What one decision said, in one sentence. */
export function decisionSentence(decision: Decision, arrivedAtMs = 0): string {
  const because = `because ${lowerFirst(reasonText(decision.reason))} (${decision.reason})`;
  const when = arrivedAtMs > 0 && decision.atUnixMs >= arrivedAtMs ? `At +${formatMs(decision.atUnixMs - arrivedAtMs)} ` : '';
  const policy = `policy ${decision.policy}`;
  const slack = `${formatMs(Math.abs(decision.slackMs))} ${decision.slackMs < 0 ? 'over the safe delay' : 'of safe delay left'}`;
  const subject = `${when}${when === '' ? upperFirst(policy) : policy}`;
  if (decision.action === DecisionAction.DISPATCH) {
    const prediction = decision.predictedMs > 0 ? `, predicted ${formatMs(decision.predictedMs)}` : '';
    return `${subject} chose ${decision.node} ${because}${prediction}, ${slack}.`;
  }
  const until = decision.deadlineUnixMs > 0 && decision.atUnixMs > 0 && decision.deadlineUnixMs - decision.atUnixMs < 1e9 ? `, at most ${formatMs(Math.max(0, decision.deadlineUnixMs - decision.atUnixMs))}` : '';
  return `${subject} decided to wait for ${decision.node === '' ? 'any room' : decision.node} ${because}${until}.`;
}

/** The candidates of a decision, the chosen one marked. Empty when there were none. */
export function candidateTable(decision: Decision, width: number | undefined): string {
  if (decision.candidates.length === 0) return '';
  const rows = decision.candidates.map((candidate) => ({ ...candidate, chosen: candidate.node === decision.node }));
  const more = decision.candidatesInAll - rows.length;
  return `${renderTable(rows, CANDIDATE_COLUMNS, { width })}${more > 0 ? `… and ${more} more\n` : ''}`;
}

/** The whole explanation of an invocation. */
export function explanationText(explanation: ExplainResponse, width: number | undefined): string {
  const { invocation, decisions, transitions } = explanation;
  const arrivedAtMs = invocation?.arrivedAtUnixMs ?? transitions[0]?.atUnixMs ?? 0;
  const blocks: string[] = [];
  if (invocation !== undefined) {
    const { phases } = invocation;
    const over = isOver(invocation.state);
    const time = over && phases !== undefined ? ` after ${formatMs(phases.totalMs)}` : '';
    const sla = invocation.slaMs > 0 ? ` (target ${formatMs(invocation.slaMs)})` : '';
    blocks.push(`${invocation.id}: ${invocation.isWorkflow ? 'workflow' : 'function'} ${invocation.function} is ${stateWord(invocation.state)}${time}${sla}.\n${inShort(explanation)}`);
  }
  for (const [i, decision] of decisions.entries()) {
    blocks.push(`${i + 1}. ${decisionSentence(decision, arrivedAtMs)}\n${candidateTable(decision, width)}`);
  }
  if (decisions.length === 0) blocks.push('No decision is remembered for it.\n');
  if (transitions.length > 0) {
    blocks.push(renderTable(transitions, [
      { header: 'AFTER ms', align: 'right', cell: ({ atUnixMs }) => msCell(Math.max(0, atUnixMs - arrivedAtMs)) },
      { header: 'FROM', cell: ({ from }) => stateWord(from) },
      { header: 'TO', cell: ({ to, delayingFor }) => (delayingFor === '' ? stateWord(to) : `${stateWord(to)} (${delayingFor})`) },
      { header: 'EVENT', cell: ({ event }) => event },
      { header: 'REASON', cell: ({ reason }) => reason },
      { header: 'NODE', cell: ({ node }) => node },
      { header: 'IF', cell: ({ from, event, to }) => guardsOf(INVOCATION_STATES[from] ?? '', event, INVOCATION_STATES[to] ?? '').join(' '), optional: true },
    ], { width }));
  }
  return blocks.join('\n');
}

/** The story in a sentence or two: "Chosen node-2 (local 92%) because …; waited 12.3 ms for it; prediction 120 ms, measured 131 ms." */
function inShort({ invocation, decisions, transitions }: ExplainResponse): string {
  if (invocation === undefined || invocation.isWorkflow) return '';
  const last = decisions.at(-1);
  const parts: string[] = [];
  // Whoever waited is sent by an event (a release, the end of the safe delay), not by a further decision.
  const sent = transitions.findLast(({ from, to }) => to === InvocationState.DISPATCHED && from !== InvocationState.DISPATCHED);
  const chosen = sent ?? (last?.action === DecisionAction.DISPATCH ? last : undefined);
  if (chosen !== undefined) {
    const locality = localityText(invocation.locality);
    parts.push(`Chosen ${chosen.node}${locality === '' ? '' : ` (${locality})`} because ${lowerFirst(reasonText(chosen.reason))}`);
  } else if (last !== undefined) parts.push(`Waiting for ${last.node === '' ? 'any room' : last.node} because ${lowerFirst(reasonText(last.reason))}`);
  const { phases } = invocation;
  if (phases !== undefined && phases.delayedMs > 0) {
    const target = decisions.findLast((decision) => decision.action === DecisionAction.DELAY && decision.node !== '')?.node ?? 'a better node';
    parts.push(`waited ${formatMs(phases.delayedMs)} for ${target}`);
  }
  if (phases !== undefined && phases.queuedMs > 0) parts.push(`waited ${formatMs(phases.queuedMs)} for room`);
  if (chosen !== undefined && invocation.predictedMs > 0) {
    const measured = phases === undefined || !isOver(invocation.state) ? 0 : phases.fetchedMs + phases.initialisedMs + phases.ranMs;
    const off = Math.round((measured / invocation.predictedMs - 1) * 100);
    parts.push(`prediction ${formatMs(invocation.predictedMs)}${measured > 0 ? `, measured ${formatMs(measured)} (${off >= 0 ? '+' : '−'}${Math.abs(off)} %)` : ''}`);
  }
  if (invocation.error !== undefined) parts.push(`ended with ${invocation.error.code}: ${invocation.error.message}`);
  return parts.length === 0 ? '' : `${parts.join('; ')}.\n`;
}

function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) || text.startsWith('A ') ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}

function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
