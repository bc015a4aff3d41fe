/**
 * Piscina entry of the training thread: short tasks on the one model that it owns. The thread has the lowest priority that Linux gives, so
 * that on a small machine training uses what the loop, the streams and inference leave over.
 */
import { MetronomeError } from '../src/core/errors.ts';
import { lowerThreadPriority } from '../src/predictor/pool/thread-priority.ts';
import { TrainingDesk } from '../src/predictor/pool/training-desk.ts';
import type { TrainKind, TrainOutcome, TrainTask } from '../src/predictor/pool/training-protocol.ts';

lowerThreadPriority();
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
