/** Simulations whose scheduler is recorded, in memory or in real files, for tests of recording and replay. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createRandom } from '../../src/core/random.ts';
import { decodeBlock, encodeBlock, encodeHead, type RecordedModel, type RecordingHead, type StoredBlock } from '../../src/recording/format.ts';
import type { RecordingReader } from '../../src/recording/read-recording.ts';
import { Recorder, type Block, type BlockSink } from '../../src/recording/recorder.ts';
import { headOf } from '../../src/recording/recording-head.ts';
import { createTappedScheduler } from '../../src/recording/tapped-scheduler.ts';
import type { SchedulerOptions } from '../../src/scheduler/scheduler.ts';
import { FaultInjector, type FaultRates } from '../../src/sim/faults.ts';
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';
import { Simulation, type SchedulerParameters, type SimulationOptions } from '../../src/sim/simulation.ts';

/** A sink in memory that can be made to lag. */
export class MemorySink implements BlockSink {
  readonly blocks: Block[] = [];
  hasRoom = true;
  /** Undefined: as long as there is room. */
  takes: boolean | undefined = undefined;
  isOver = false;

  write(block: Block): boolean {
    if (!(this.takes ?? this.hasRoom) || this.isOver) return false;
    this.blocks.push(block);
    return true;
  }
}

/** Writes blocks as a recording of `segments` files under `dir`. Returns its folder, and where the blocks begin in each file. */
export function writeRecording(dir: string, head: Omit<RecordingHead, 'segment'>, blocks: readonly Block[], segments = 1): { folder: string; offsets: number[][] } {
  const folder = join(dir, '20261125T190838123Z-1');
  mkdirSync(folder);
  const each = Math.ceil(blocks.length / segments);
  const offsets = Array.from({ length: segments }, (_, i) => {
    const parts = [encodeHead({ ...head, segment: i + 1 })];
    const starts: number[] = [];
    let at = parts[0]?.length ?? 0;
    for (const block of blocks.slice(i * each, (i + 1) * each)) {
      const bytes = encodeBlock(block);
      starts.push(at);
      at += bytes.length;
      parts.push(bytes);
    }
    writeFileSync(join(folder, `00000${i + 1}.mrec`), Buffer.concat(parts));
    return starts;
  });
  return { folder, offsets };
}

/** Reads what a memory sink holds, through the form that blocks have on disk. */
export function readerOf(head: Omit<RecordingHead, 'segment'>, blocks: readonly Block[]): RecordingReader {
  return {
    folder: 'memory', others: 0, head: { ...head, segment: 1 }, segments: 1, removedSegments: 0, torn: undefined, bytes: 0,
    *blocks(): Generator<StoredBlock> {
      for (const block of blocks) {
        const found = decodeBlock(encodeBlock(block), 0, 'memory', false);
        if (found.kind === 'block') yield found.block;
      }
    },
  };
}

/** What a recorded simulation is made of. */
export interface RecordedOptions {
  readonly seed?: number;
  readonly durationMs?: number;
  readonly perS?: number;
  readonly scheduler?: SchedulerParameters;
  readonly faults?: FaultRates;
  readonly sink?: MemorySink;
  readonly predictor?: NonNullable<SimulationOptions['predictor']>;
  /** What the head says of the forest. */
  readonly model?: RecordedModel;
  /** Told before each arrival. */
  readonly onArrival?: (index: number, recorder: Recorder) => void;
}

/** Runs a small cluster in which much goes wrong, recorded. */
export function recordSimulation(options: RecordedOptions = {}) {
  const { seed = 1, durationMs = 12_000, perS = 40, faults = {}, sink = new MemorySink() } = options;
  const random = createRandom(seed, 5);
  let recorder: Recorder | undefined;
  let head: Omit<RecordingHead, 'segment'> | undefined;
  let scheduler: SchedulerOptions | undefined;
  const sim: Simulation = new Simulation({
    rememberDecisions: 64, ...options.scheduler, ...(options.predictor === undefined ? {} : { predictor: options.predictor }), seed, bytesPerMs: 50_000, nodes: Array.from({ length: 4 }, () => ({ slots: 2, cores: 2, memoryMb: 1_024, keepAliveMs: 3_000, zygoteMb: 256, objectQuotaBytes: 1e9 })),
    createScheduler(all) {
      head = headOf(all, 'test', all.clock.nowMs(), options.model);
      scheduler = all;
      recorder = new Recorder({ clock: all.clock, sink, context: () => ({ functions: [], nodes: [] }) });
      return createTappedScheduler(all, recorder);
    },
  });
  for (let i = 0; i < 6; i++) sim.deploy({ name: `f${i}`, slaMs: 800, memoryMb: 128, critical: i % 2 === 0, idempotent: i !== 3, retries: 2, concurrency: i === 5 ? 2 : 0, packageSet: `p${i % 3}` }, { ...PLAIN_PROFILE, installMs: 200, importMs: 80, runMs: 40 + 20 * i, noise: 0.2 });
  const injector = new FaultInjector(sim, faults, seed);
  let submitted = 0, refused = 0;
  const next = (): void => {
    sim.at(sim.elapsedMs - Math.log(1 - random.uniform()) * (1_000 / perS), () => {
      if (sim.elapsedMs >= durationMs) return;
      options.onArrival?.(submitted, recorder as Recorder);
      const index = submitted++;
      const inputs = index % 3 === 0 ? [sim.upload(random.below(4), `in-${index}`, 1 + random.below(4_000_000))] : [];
      try {
        const { id } = sim.submit(`f${random.below(6)}`, { inputs, localityKey: index % 5 === 0 ? `key-${index % 4}` : '', payloadBytes: random.below(1_000), ...(index % 7 === 0 ? { expiresAtMs: sim.clock.nowMs() + random.below(600) } : {}) });
        if (index % 11 === 0) sim.at(sim.elapsedMs + random.below(200), () => void sim.scheduler.cancel(id));
      } catch {
        refused++; // an answer too: it is recorded like any other
      }
      next();
    });
  };
  next();
  sim.at(durationMs / 2, () => void sim.scheduler.setPolicy('lookahead'));
  sim.at(durationMs / 2 + 500, () => void sim.scheduler.setPolicy(options.scheduler?.policy ?? 'metronome'));
  sim.at(durationMs / 3, () => void sim.scheduler.deleteFunction('f4'));
  sim.at(durationMs / 3 + 700, () => sim.deploy({ name: 'f4', version: '2' }, {}));
  sim.advance(durationMs);
  injector.stop();
  sim.settle(60_000);
  sim.stop();
  (recorder as unknown as Recorder).close();
  return { sim, sink, scheduler: scheduler as unknown as SchedulerOptions, recorder: recorder as unknown as Recorder, submitted, refused, head: head as unknown as Omit<RecordingHead, 'segment'>, reader: (): RecordingReader => readerOf(head as unknown as Omit<RecordingHead, 'segment'>, sink.blocks) };
}
