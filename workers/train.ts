/**
 * Piscina entry of the training thread: short tasks on the one model that it owns. The thread has the lowest priority that Linux gives, so
 * that on a small machine training uses what the loop, the streams and inference leave over.
 */
import { readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { MetronomeError } from '../src/core/errors.ts';
import { TrainingDesk } from '../src/predictor/pool/training-desk.ts';
import type { TrainKind, TrainOutcome, TrainTask } from '../src/predictor/pool/training-protocol.ts';

try {
  // "<process>/task/<thread>"; priorities of Linux belong to threads.
  setPriority(Number(readlinkSync('/proc/thread-self').split('/').at(-1)), constants.priority.PRIORITY_LOW);
} catch {
  // Not Linux, or not allowed: it trains at the priority of the others.
}

const desk = new TrainingDesk(() => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
});

/** Does one task. */
export default async function train<K extends TrainKind>(task: Extract<TrainTask, { kind: K }>): Promise<TrainOutcome<K>> {
  try {
    return { answer: await desk.handle<K>(task) };
  } catch (error) {
    return { error: MetronomeError.from(error).toRecord() };
  }
}
