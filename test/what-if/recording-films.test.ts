/** Recordings of simulations as films: what was, and what would have been. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { machineCharts } from '../../src/inspect/charts.ts';
import { readHistory } from '../../src/recording/history.ts';
import { Film, type FilmBounds } from '../../src/sim/film.ts';
import { watcherFor } from '../../src/sim/frames.ts';
import { recordingFilms } from '../../src/what-if/recording-films.ts';
import { simulateWork } from '../../src/what-if/simulate-work.ts';
import { workloadOf } from '../../src/what-if/workload.ts';
import { recordSimulation, writeRecording } from '../recording/recorded-simulation.ts';

const BOUNDS: FilmBounds = { frames: 200, nodesEach: 4, transitionsEach: 10_000 };
const WANTED = { ...BOUNDS, policies: [], seed: 1, mostInvocations: 10_000 };
const STATES = machineCharts().find(({ name }) => name === 'invocation')?.states.map(({ name }) => name) ?? [];
const DISPATCHED = STATES.indexOf('dispatched'), COMPLETED = STATES.indexOf('completed');
const recorded = recordSimulation({ durationMs: 8_000, perS: 25 });

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-films-'));
});
afterEach(() => rm(dir, { recursive: true }));

describe('the films of a recording', () => {
  it('show first what was: every transition at its time, and the nodes as they were used', () => {
    const { folder } = writeRecording(dir, recorded.head, recorded.sink.blocks);
    const [film, ...others] = recordingFilms({ ...WANTED, folder });
    const history = readHistory(recorded.reader());
    expect(others).toEqual([]);
    expect(film).toMatchObject({ kind: 'recorded', policy: 'metronome' });
    const frames = film?.frames ?? [];
    expect(frames).toHaveLength(BOUNDS.frames);
    const rows = frames.flatMap(({ transitions }) => transitions);
    let beforeMs = -1;
    for (const { simulatedMs, transitions, nodes, counts } of frames) {
      for (const { atMs } of transitions) {
        expect(atMs).toBeGreaterThanOrEqual(beforeMs);
        expect(atMs).toBeLessThanOrEqual(simulatedMs);
      }
      beforeMs = transitions.at(-1)?.atMs ?? beforeMs;
      // A slot is free again when its node says so, a while after a cancellation.
      expect(nodes.reduce((sum, { used }) => sum + used, 0)).toBeGreaterThanOrEqual(counts[DISPATCHED] ?? Infinity);
    }
    expect(frames.some(({ counts }) => (counts[DISPATCHED] ?? 0) > 1)).toBe(true);
    // What the last frame counts is what it was told of on the way.
    expect(rows.filter(({ to }) => to === 'completed')).toHaveLength(frames.at(-1)?.counts[COMPLETED] ?? -1);
    const ends = history.invocations.filter(({ outcome, atMs }) => outcome?.state === 'completed' && atMs + outcome.totalMs <= (frames.at(-1)?.simulatedMs ?? 0));
    expect(frames.at(-1)?.counts[COMPLETED]).toBe(ends.length);
    expect(film?.summary['transitionsLeftOut']).toBe(0);
  });

  it('show beside it what its traffic would have seen, with figures of the same requests', () => {
    const { folder } = writeRecording(dir, recorded.head, recorded.sink.blocks);
    const films = recordingFilms({ ...WANTED, folder, policies: ['metronome', 'round-robin'] });
    expect(films.map(({ kind, policy }) => `${kind} ${policy}`)).toEqual(['recorded metronome', 'whatIf metronome', 'whatIf round-robin']);
    const [was, control, other] = films.map(({ summary }) => summary);
    const completed = readHistory(recorded.reader()).invocations.flatMap(({ outcome }) => (outcome?.state === 'completed' ? [outcome.totalMs] : []));
    expect(was?.['meanMs']).toBeCloseTo(completed.reduce((sum, ms) => sum + ms, 0) / completed.length, 6);
    for (const summary of [was, control, other]) expect(summary).toMatchObject({ requests: recorded.submitted - recorded.refused, compared: completed.length });
    expect(Math.abs((control?.['meanMs'] ?? 0) / (was?.['meanMs'] ?? 1) - 1)).toBeLessThan(0.3);
    for (const { frames, notes } of films) {
      expect(frames).toHaveLength(BOUNDS.frames);
      expect(notes?.length).toBeGreaterThan(0);
    }
  });

  it('end with everything ended, when the simulation is done before the recording was', () => {
    const { work } = workloadOf(readHistory(recorded.reader()), { ...recorded.head, segment: 1 }, 'memory');
    const film = new Film(BOUNDS, 60_000);
    simulateWork(work, { policy: 'metronome' }, 1, { watcher: watcherFor(film) });
    expect(film.frames.length).toBeLessThan(BOUNDS.frames);
    const { counts = [], nodes = [] } = film.frames.at(-1) ?? {};
    expect(counts.slice(0, COMPLETED).every((count) => count === 0)).toBe(true);
    expect(nodes.map(({ used }) => used)).toEqual([0, 0, 0, 0]);
  });

  it('change nothing of the simulation that they show', () => {
    const { work } = workloadOf(readHistory(recorded.reader()), { ...recorded.head, segment: 1 }, 'memory');
    const watched = simulateWork(work, { policy: 'lookahead' }, 3, { watcher: watcherFor(new Film(BOUNDS, 8_000)) });
    expect(watched.digest).toBe(simulateWork(work, { policy: 'lookahead' }, 3).digest);
  });

  it('end, and say so, where this build decides otherwise than the one that recorded', () => {
    const { folder } = writeRecording(dir, { ...recorded.head, scheduler: { ...recorded.head.scheduler, safetyMargin: 0.6 } }, recorded.sink.blocks);
    const [film] = recordingFilms({ ...WANTED, folder });
    expect(film?.frames.length).toBeLessThan(BOUNDS.frames);
    expect(film?.notes?.at(-1)).toMatch(/^The film ends at [\d.]+ s: this build decides otherwise/);
  });

  it('are few and short: more invocations than the bound are refused', () => {
    const { folder } = writeRecording(dir, recorded.head, recorded.sink.blocks);
    expect(() => recordingFilms({ ...WANTED, folder, mostInvocations: 50 })).toThrow('more than 50 invocations');
  });

  it('need a completed invocation for a what-if, and none for what was', () => {
    const idle = recordSimulation({ durationMs: 2_000, perS: 0.000_001 });
    const { folder } = writeRecording(dir, idle.head, idle.sink.blocks);
    expect(recordingFilms({ ...WANTED, folder }).map(({ summary }) => summary['requests'])).toEqual([0]);
    expect(() => recordingFilms({ ...WANTED, folder, policies: ['lookahead'] })).toThrow('a what-if needs at least one of each');
  });
});
