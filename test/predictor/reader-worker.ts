/** A thread that predicts from a published model over and over and checks that no answer mixes two versions. See published-model.test.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { SITUATION_WIDTH } from '../../src/predictor/features.ts';
import { createPredictionOut } from '../../src/predictor/model/model-view.ts';
import { ModelReader } from '../../src/predictor/model/published-model.ts';

const { buffer, reader, reads, means } = workerData as { buffer: SharedArrayBuffer; reader: number; reads: number; means: Record<number, number> };
const model = new ModelReader(buffer, reader);
const rows = new Float64Array(5 * SITUATION_WIDTH);
for (let r = 0; r < 5; r++) rows[r * SITUATION_WIDTH + 15] = 4;
const out = createPredictionOut(5);
const versions = new Set<number>();
let torn = 0;
// At least so many reads, and until some versions went by: on a loaded machine the writer may come late.
for (let i = 0; i < reads || versions.size < 10; i++) {
  const version = model.predict(rows, 0, 5, out, 0);
  versions.add(version);
  for (let r = 0; r < 5; r++) if (version > 0 && out.meanMs[r] !== means[version % 2]) torn++;
}
parentPort?.postMessage({ torn, versions: versions.size });
