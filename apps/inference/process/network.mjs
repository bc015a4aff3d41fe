/** The dense network of model.json as a model of TensorFlow.js. */
import { core, layers } from './tensorflow.mjs';

/** Rows that go through the network at once: bounds the memory. */
const BATCH = 4_096;

/** A model with the shape of `description.layers`, and its weights unless they are to be trained. */
export function createNetwork(description, { seed } = {}) {
  const model = layers.sequential();
  for (const [i, { units, activation }] of description.layers.entries()) {
    model.add(layers.layers.dense({ units, activation, ...(i === 0 ? { inputShape: [description.features.length] } : {}), ...(seed === undefined ? {} : { kernelInitializer: layers.initializers.glorotUniform({ seed: seed + i }) }) }));
  }
  if (seed === undefined) model.setWeights(description.layers.flatMap(({ kernel, bias }) => [core.tensor2d(kernel), core.tensor1d(bias)]));
  return model;
}

/** For each row of features the probabilities of the classes, row after row. */
export function predict(model, rows, classes) {
  const probabilities = new Float32Array(rows.length * classes);
  for (let at = 0; at < rows.length; at += BATCH) {
    const part = rows.slice(at, at + BATCH);
    probabilities.set(core.tidy(() => model.predict(core.tensor2d(part)).dataSync()), at * classes);
  }
  return probabilities;
}

/** The most probable class of each row. */
export function classify(probabilities, classes) {
  const found = new Uint8Array(probabilities.length / classes);
  for (let row = 0; row < found.length; row++) {
    let best = 0;
    for (let i = 1; i < classes; i++) if (probabilities[row * classes + i] > probabilities[row * classes + best]) best = i;
    found[row] = best;
  }
  return found;
}
