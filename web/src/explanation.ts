/** An explanation as the daemon sends it (ExplainResponse as JSON, where zeros are left out), read into whole records, and said in prose. */
import { REASONS } from '../../src/core/reasons.ts';
import { formatBytes, formatMs, lowerFirst, percent } from './words.ts';

export interface Candidate {
  readonly node: string;
  readonly isLocal: boolean;
  readonly degree: number;
  readonly data: number;
  readonly infrastructure: number;
  readonly predictedMs: number;
  readonly spreadMs: number;
  readonly p95Ms: number;
  readonly expectedWaitMs: number;
  readonly room: number;
  readonly load: number;
  /** cold, packages, zygote or warm; '' when not known. */
  readonly start: string;
  readonly missingBytes: number;
  readonly zygoteDistance: number;
  readonly source: string;
}

export interface Decision {
  readonly atMs: number;
  readonly policy: string;
  readonly isDispatch: boolean;
  readonly node: string;
  readonly reason: string;
  readonly slackMs: number;
  readonly deadlineMs: number;
  readonly waitedMs: number;
  readonly candidates: readonly Candidate[];
  readonly candidatesInAll: number;
  readonly localityThreshold: number;
  readonly predictedMs: number;
  readonly measuredMs: number;
}

export interface Step {
  readonly from: string;
  readonly to: string;
  readonly event: string;
  readonly reason: string;
  readonly node: string;
  readonly delayingFor: string;
  readonly atMs: number;
}

export const PHASES = ['predicted', 'queued', 'delayed', 'dispatched', 'fetched', 'initialised', 'ran'] as const;

export type Phase = (typeof PHASES)[number];

export interface Explanation {
  readonly id: string;
  readonly function: string;
  readonly policy: string;
  readonly state: string;
  readonly delayingFor: string;
  readonly node: string;
  readonly reason: string;
  readonly error: string;
  readonly attempt: number;
  readonly arrivedAtMs: number;
  /** 0 while it lives. */
  readonly endedAtMs: number;
  readonly slaMs: number;
  readonly predictedMs: number;
  readonly startState: string;
  readonly workflowRun: string;
  readonly step: string;
  readonly phases: Readonly<Record<Phase, number>>;
  readonly totalMs: number;
  readonly decisions: readonly Decision[];
  readonly steps: readonly Step[];
}

type Json = Readonly<Record<string, unknown>>;

const object = (value: unknown): Json => (typeof value === 'object' && value !== null ? (value as Json) : {}); // read field by field below
const list = (value: unknown): Json[] => (Array.isArray(value) ? value.map(object) : []);
const number = (value: unknown): number => (typeof value === 'number' ? value : typeof value === 'string' ? Number(value) || 0 : 0);
const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** "INVOCATION_STATE_TIMED_OUT" → "timedOut": the name that the machine has for it. '' when unspecified. */
function word(value: unknown, prefix: string): string {
  const name = text(value).replace(prefix, '').toLowerCase();
  return name === 'unspecified' ? '' : name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** Reads one. */
export function readExplanation(json: unknown): Explanation {
  const { invocation, decisions, transitions } = object(json);
  const given = object(invocation);
  const phases = object(given['phases']);
  const error = object(given['error']);
  return {
    id: text(given['id']), function: text(given['function']), policy: text(given['policy']), state: word(given['state'], 'INVOCATION_STATE_'), delayingFor: text(given['delayingFor']),
    node: text(given['node']), reason: text(given['reason']), error: text(error['message']) === '' ? '' : `${text(error['code'])}: ${text(error['message'])}`, attempt: number(given['attempt']),
    arrivedAtMs: number(given['arrivedAtUnixMs']), endedAtMs: number(given['endedAtUnixMs']), slaMs: number(given['slaMs']), predictedMs: number(given['predictedMs']),
    startState: word(phases['startState'], 'START_STATE_'), workflowRun: text(given['workflowRunId']), step: text(given['step']),
    phases: Object.fromEntries(PHASES.map((phase) => [phase, number(phases[`${phase}Ms`])])) as Record<Phase, number>, // every phase is there
    totalMs: number(phases['totalMs']),
    decisions: list(decisions).map(readDecision),
    steps: list(transitions).map((step) => ({
      from: word(step['from'], 'INVOCATION_STATE_'), to: word(step['to'], 'INVOCATION_STATE_'), event: text(step['event']), reason: text(step['reason']), node: text(step['node']), delayingFor: text(step['delayingFor']), atMs: number(step['atUnixMs']),
    })),
  };
}

function readDecision(json: Json): Decision {
  const candidates = list(json['candidates']).map((each): Candidate => {
    const locality = object(each['locality']);
    return {
      node: text(each['node']), isLocal: word(locality['class'], 'LOCALITY_CLASS_') === 'local', degree: number(locality['degree']), data: number(locality['data']), infrastructure: number(locality['infrastructure']),
      predictedMs: number(each['predictedMs']), spreadMs: number(each['spreadMs']), p95Ms: number(each['p95Ms']), expectedWaitMs: number(each['expectedWaitMs']), room: number(each['room']), load: number(each['load']),
      start: word(each['startState'], 'START_STATE_'), missingBytes: number(each['missingBytes']), zygoteDistance: number(each['zygoteDistance']), source: text(each['source']),
    };
  });
  return {
    atMs: number(json['atUnixMs']), policy: text(json['policy']), isDispatch: word(json['action'], 'DECISION_ACTION_') === 'dispatch', node: text(json['node']), reason: text(json['reason']), slackMs: number(json['slackMs']),
    deadlineMs: number(json['deadlineUnixMs']), waitedMs: number(json['waitedMs']), candidates, candidatesInAll: Math.max(number(json['candidatesInAll']), candidates.length), localityThreshold: number(json['localityThreshold']),
    predictedMs: number(json['predictedMs']), measuredMs: number(json['measuredMs']),
  };
}

/** A reason in words. */
export function reasonText(reason: string): string {
  return (REASONS as Readonly<Record<string, string>>)[reason] ?? reason; // an unknown one comes from a newer daemon
}

/** Why it was decided so, in a sentence or two. */
export function whyChosen(decision: Decision, arrivedAtMs: number): string {
  const after = decision.atMs >= arrivedAtMs && arrivedAtMs > 0 ? `${formatMs(decision.atMs - arrivedAtMs)} after its arrival, ` : '';
  const because = lowerFirst(reasonText(decision.reason)).replace(/\.$/, '');
  const slack = decision.slackMs < 0 ? `It was ${formatMs(-decision.slackMs)} over its safe delay.` : `It could still have waited ${formatMs(decision.slackMs)}.`;
  if (decision.isDispatch) {
    const predicted = decision.predictedMs > 0 ? ` It was predicted to take ${formatMs(decision.predictedMs)} there${decision.measuredMs > 0 ? `, and took ${formatMs(decision.measuredMs)} (${deviation(decision.predictedMs, decision.measuredMs)})` : ''}.` : '';
    return upperFirst(`${after}${decision.policy} chose ${decision.node}, because ${because}.${predicted} ${slack}`);
  }
  const leftMs = decision.deadlineMs - decision.atMs;
  const until = decision.deadlineMs > 0 && leftMs < 1e9 ? `, for at most ${formatMs(Math.max(0, leftMs))}` : '';
  return upperFirst(`${after}${decision.policy} let it wait for ${decision.node === '' ? 'any room' : decision.node}${until}, because ${because}.`);
}

/** Why a candidate was not taken, compared with the one that was. */
export function whyNot(candidate: Candidate, decision: Decision): string {
  const chosen = decision.candidates.find(({ node }) => node === decision.node);
  if (candidate.node === decision.node) return decision.isDispatch ? 'chosen' : 'waited for';
  const parts: string[] = [];
  const endMs = candidate.expectedWaitMs + candidate.predictedMs;
  if (candidate.room <= 0) parts.push(candidate.expectedWaitMs > 0 ? `full for about ${formatMs(candidate.expectedWaitMs)}` : 'full, nobody knows for how long');
  if (chosen !== undefined) {
    const laterMs = endMs - (chosen.expectedWaitMs + chosen.predictedMs);
    const isKnown = candidate.room > 0 || candidate.expectedWaitMs > 0;
    if (isKnown && laterMs > 0) parts.push(`would end ${formatMs(laterMs)} later${costs(candidate, chosen)}`);
    else if (isKnown && laterMs < 0) parts.push(`would end ${formatMs(-laterMs)} earlier, wait included; ${decision.policy} decides by other rules (${decision.reason})`);
    else if (isKnown) parts.push('as good; the first of equals is taken');
  } else if (decision.node === '' && candidate.room <= 0) parts.push('it waits for whichever has room first');
  return parts.join(', ');
}

function costs(candidate: Candidate, chosen: Candidate): string {
  const parts: string[] = [];
  if (candidate.missingBytes > chosen.missingBytes) parts.push(`${formatBytes(candidate.missingBytes)} to fetch`);
  if (candidate.start !== chosen.start && candidate.start !== '' && candidate.start !== 'warm') parts.push(`${candidate.start === 'packages' ? 'only packages there' : `${candidate.start} start`}`);
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}

/** "+12 %". */
export function deviation(predictedMs: number, measuredMs: number): string {
  const share = measuredMs / predictedMs - 1;
  return `${share >= 0 ? '+' : '−'}${percent(Math.abs(share))}`;
}

function upperFirst(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
