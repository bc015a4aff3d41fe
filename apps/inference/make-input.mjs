/**
 * Makes a table of irises (CSV: id, four measures in cm, species) that never grew, distributed as the real ones, and the truth about it: what the network
 * must say about each row, computed here in plain JavaScript from the same model.json. The same seed and size give the same bytes.
 * As a program: `node make-input.mjs PATH [SIZE] [SEED]`; the truth goes to stdout as JSON.
 */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { createRandom, normal, runAsProgram } from '../input-maker.mjs';

/** How far irises of a kind differ from each other, compared with the real ones. */
const SPREAD = 0.9;
/** Between two classes this near to each other, rounding decides; there is no truth about such a row. */
const LEAST_MARGIN = 0.002;

const model = JSON.parse(await readFile(new URL('process/model.json', import.meta.url), 'utf8'));

/**
 * Writes a table of about `bytes` bytes to `path`. Returns the truth: { path, bytes, payload, rows, predictions, classes, accuracy }, predictions
 * as one character for each row: the number of the class, or "?" where it is too close to tell.
 * @param {{ path: string, bytes: number, seed?: number }} options
 */
export async function makeInput({ path, bytes, seed = 1 }) {
  const random = createRandom(seed);
  const lines = [`id,${model.features.join(',')},species`];
  const classes = Object.fromEntries(model.classes.map((name) => [name, 0]));
  let length = lines[0].length + 1;
  let predictions = '';
  let right = 0;
  do {
    const label = Math.floor(random() * model.classes.length);
    const measures = sample(model.distribution[label], random);
    const { found, margin } = classify(measures);
    classes[model.classes[found]]++;
    if (found === label) right++;
    predictions += margin < LEAST_MARGIN ? '?' : String(found);
    const line = `${lines.length},${measures.join(',')},${model.classes[label]}`;
    lines.push(line);
    length += line.length + 1;
  } while (length < bytes);
  await writeFile(path, `${lines.join('\n')}\n`);
  return { path, bytes: (await stat(path)).size, payload: { ranges: model.ranges }, rows: predictions.length, classes, accuracy: right / predictions.length, predictions };
}

/** Measures with two decimals, drawn from the distribution of a class. */
function sample({ means, lower }, random) {
  const z = means.map(() => normal(random));
  return means.map((center, i) => Math.max(0.1, center + SPREAD * lower[i].reduce((sum, factor, j) => sum + factor * z[j], 0)).toFixed(2));
}

/** What the network says: the most probable class, and how much more probable it is than the next. */
function classify(measures) {
  let values = measures.map((text, i) => {
    const [low, high] = model.ranges[model.features[i]];
    return (Number(text) - low) / (high - low);
  });
  for (const { kernel, bias, activation } of model.layers) {
    const sums = bias.map((start, unit) => values.reduce((sum, value, i) => sum + value * kernel[i][unit], start));
    values = activation === 'softmax' ? softmax(sums) : sums.map((sum) => Math.max(0, sum));
  }
  const found = values.indexOf(Math.max(...values));
  return { found, margin: values[found] - Math.max(...values.filter((_, i) => i !== found)) };
}

function softmax(sums) {
  const most = Math.max(...sums);
  const powers = sums.map((sum) => Math.exp(sum - most));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

await runAsProgram(import.meta.url, { does: 'Makes a table of irises; what the network must say about them goes to stdout as JSON.', size: '500KB', make: makeInput });
