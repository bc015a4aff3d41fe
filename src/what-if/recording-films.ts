/**
 * A recording as films on one clock: what was, replayed, and what its traffic would have seen under other policies, simulated. One seed each: to look at,
 * not to conclude from; intervals are what-if.ts.
 */
import { MetronomeError } from '../core/errors.ts';
import type { SimulationRun } from '../inspect/page-api.ts';
import { readHistory } from '../recording/history.ts';
import { openRecording, type RecordingReader } from '../recording/read-recording.ts';
import { replayRecording, type ReplayReport } from '../recording/replay.ts';
import { Film, type FilmBounds } from '../sim/film.ts';
import { watcherFor } from '../sim/frames.ts';
import { figuresOfSide } from './compare.ts';
import { levelWork } from './level.ts';
import { simulateWork } from './simulate-work.ts';
import { slasOf } from './what-if.ts';
import { samplesOf, workloadOf, type WhatIfWork } from './workload.ts';

/** What is wanted; plain data. */
export interface RecordingFilmsOptions extends FilmBounds {
  readonly folder: string;
  /** Of the simulated films; none: only what was. */
  readonly policies: readonly string[];
  readonly seed: number;
  /** Invocations of the recording at most. */
  readonly mostInvocations: number;
}

/** The recorded film first, then one per policy; those end when nothing is left to be done. Throws INVALID_REQUEST or STATE_CORRUPT. */
export function recordingFilms(options: RecordingFilmsOptions): SimulationRun[] {
  const { folder, policies, seed, mostInvocations } = options;
  const reader = openRecording(folder);
  const history = readHistory(reader, mostInvocations);
  if (history.durationMs <= 0) throw new MetronomeError('INVALID_REQUEST', `The recording in ${folder} ends where it begins: there is nothing to show.`);
  const { work, notes } = policies.length > 0 || (history.nodes.length > 0 && samplesOf(history).length > 0) ? workloadOf(history, reader.head, folder) : { work: undefined, notes: { assumed: [] } };
  const recorded = replayed(reader, options, history.durationMs);
  if (recorded.film.frames.length === 0) throw new MetronomeError('INVALID_REQUEST', `Nothing of the recording in ${folder} can be shown: this build goes another way from its first entry on. \`metronome replay\` tells how; version ${reader.head.version} wrote it.`);
  const films: SimulationRun[] = [{
    kind: 'recorded', policy: history.policy, frames: recorded.film.frames, notes: notesOf(recorded.report),
    summary: { ...(work === undefined ? { requests: history.invocations.length } : figuresOf(work, Float64Array.from(work.requests, ({ recordedMs }) => recordedMs))), refused: history.refused, transitionsLeftOut: recorded.film.leftOut },
  }];
  if (work === undefined || policies.length === 0) return films;
  const levelled = levelWork(work);
  for (const policy of policies) {
    const film = new Film(options, history.durationMs);
    const { latencies, refused } = simulateWork(levelled, { policy }, seed, { watcher: watcherFor(film) });
    films.push({ kind: 'whatIf', policy, frames: film.frames, notes: [`Assumed: ${notes.assumed.join('; ') || 'nothing'}.`], summary: { ...figuresOf(work, latencies), refused, transitionsLeftOut: film.leftOut } });
  }
  return films;
}

/** The scheduler of the recording goes its way again, and is looked at. */
function replayed(reader: RecordingReader, bounds: FilmBounds, durationMs: number): { readonly film: Film; readonly report: ReplayReport } {
  const film = new Film(bounds, durationMs);
  let nowMs = 0;
  const report = replayRecording(reader, {
    onClock(scheduler, sinceMs) {
      nowMs = sinceMs;
      while (film.dueMs <= sinceMs) film.look(scheduler, film.dueMs);
    },
    onTransition: (scheduler, invocation, from, to, event) => film.transitioned(scheduler, invocation, from, to, event, nowMs),
  });
  return { film, report };
}

/** What the recorded film does not show. */
function notesOf({ end, missing, difference, spanMs }: ReplayReport): string[] {
  const at = `${(spanMs / 1_000).toFixed(1)} s`;
  const notes = ['Load, memory and objects of the nodes are not recorded.'];
  if (difference !== undefined) notes.push(`The film ends at ${at}: this build decides otherwise than the one that wrote the recording. \`metronome replay\` tells where.`);
  else if (end === 'gap') notes.push(`The film ends at ${at}: ${missing} entries are missing behind it.`);
  else if (end === 'cutOff') notes.push('The recording was cut off, or is being written: what lives at its end had not ended.');
  return notes;
}

/** Of the requests that completed in the recording, so that all films tell of the same ones. */
function figuresOf(work: WhatIfWork, latencies: Float64Array): Record<string, number> {
  const { requests } = work;
  const places = requests.flatMap(({ recordedMs }, place) => (Number.isNaN(recordedMs) ? [] : [place]));
  const { meanMs, p50Ms, p95Ms, p99Ms, slaMisses } = figuresOfSide([latencies], slasOf(work), places);
  const known = Object.entries({ meanMs, p50Ms, p95Ms, p99Ms }).filter(([, value]) => !Number.isNaN(value));
  return { requests: requests.length, compared: places.length, ...Object.fromEntries(known), slaMissed: Math.round((Number.isNaN(slaMisses) ? 0 : slaMisses) * places.length), failed: places.filter((place) => Number.isNaN(latencies[place])).length };
}
