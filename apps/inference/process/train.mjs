/**
 * Makes model.json: trains the network on four fifths of the irises, measures it on the rest, and notes how irises are distributed, so that
 * inputs can be made without the data set. Deterministic. Run it once, by hand: `npm ci && node train.mjs` in this folder.
 */
import { writeFile } from 'node:fs/promises';
import { core, layers } from './tensorflow.mjs';
import { CLASSES, FEATURES, irises, normalised } from './iris.mjs';
import { classify, createNetwork, predict } from './network.mjs';

const SEED = 20_260_101;
const EPOCHS = 60;
const BATCH = 16;
const HIDDEN = 32;

const all = irises();
const ranges = FEATURES.map((_, i) => [Math.min(...all.map(({ features }) => features[i])), Math.max(...all.map(({ features }) => features[i]))]);
const heldOut = all.filter((_, i) => i % 5 === 4);
const training = all.filter((_, i) => i % 5 !== 4);
const shape = { features: FEATURES, layers: [{ units: HIDDEN, activation: 'relu' }, { units: CLASSES.length, activation: 'softmax' }] };

const model = createNetwork(shape, { seed: SEED });
model.compile({ optimizer: core.train.adam(0.01), loss: 'categoricalCrossentropy' });
const random = createRandom(SEED);
for (let epoch = 0; epoch < EPOCHS; epoch++) {
  for (let i = training.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [training[i], training[j]] = [training[j], training[i]];
  }
  for (let at = 0; at < training.length; at += BATCH) {
    const batch = training.slice(at, at + BATCH);
    const x = core.tensor2d(batch.map(({ features }) => normalised(features, ranges)));
    const y = core.oneHot(core.tensor1d(batch.map(({ label }) => label), 'int32'), CLASSES.length);
    await model.trainOnBatch(x, y);
    core.dispose([x, y]);
  }
}

const accuracy = (rows) => {
  const found = classify(predict(model, rows.map(({ features }) => normalised(features, ranges)), CLASSES.length), CLASSES.length);
  return round(rows.filter(({ label }, i) => found[i] === label).length / rows.length);
};
const weights = model.getWeights().map((tensor) => tensor.arraySync());
const description = {
  features: FEATURES,
  classes: CLASSES,
  ranges: Object.fromEntries(FEATURES.map((name, i) => [name, ranges[i]])),
  layers: shape.layers.map((layer, i) => ({ ...layer, kernel: weights[2 * i].map((row) => row.map(round)), bias: weights[2 * i + 1].map(round) })),
  trained: { seed: SEED, epochs: EPOCHS, tfjs: core.version_core, layers: layers.version_layers, accuracy: { training: accuracy(training), heldOut: accuracy(heldOut) } },
  distribution: CLASSES.map((_, label) => distributionOf(all.filter((each) => each.label === label).map(({ features }) => features))),
};
await writeFile(new URL('model.json', import.meta.url), `${JSON.stringify(description)}\n`);
console.log(JSON.stringify(description.trained));

/** Means, and the lower triangle (Cholesky) of the covariance. */
function distributionOf(rows) {
  const means = FEATURES.map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
  const covariance = FEATURES.map((_, i) => FEATURES.map((__, j) => rows.reduce((sum, row) => sum + (row[i] - means[i]) * (row[j] - means[j]), 0) / (rows.length - 1)));
  const lower = FEATURES.map(() => FEATURES.map(() => 0));
  for (let i = 0; i < FEATURES.length; i++) {
    for (let j = 0; j <= i; j++) {
      const rest = covariance[i][j] - lower[i].slice(0, j).reduce((sum, value, k) => sum + value * lower[j][k], 0);
      lower[i][j] = i === j ? Math.sqrt(rest) : rest / lower[j][j];
    }
  }
  return { means: means.map(round), lower: lower.map((row) => row.map(round)) };
}

function round(value) {
  return Number(value.toPrecision(6));
}

function createRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4294967296;
  };
}
