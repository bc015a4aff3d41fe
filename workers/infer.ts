/** Piscina entry of the inference threads: a task that lives as long as its thread and serves one ring with the published model. */
import { ModelReader } from '../src/predictor/model/published-model.ts';
import type { InferTask } from '../src/predictor/pool/inference-pool.ts';
import { serveRing } from '../src/predictor/pool/ring.ts';

/** Serves the ring until it is stopped. */
export default function infer({ ring, shape, model, reader }: InferTask): void {
  const published = new ModelReader(model, reader);
  serveRing(ring, shape, (features, offset, count, results, first) => published.predict(features, offset, count, results, first));
}
