/**
 * ml-process: classifies the rows of a normalised table with a dense network (4 → 32 → 3, TensorFlow.js), trained on irises. Event: anything.
 * Writes class and probability of each row as an output object; returns their distribution, and the accuracy where the table has a column "species".
 * The model is loaded and checked against the irises it must know when the function is loaded; a warm sandbox only predicts.
 */
import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import FFT from 'fft.js';
import Papa from 'papaparse';
import { mean, quantileSorted, standardDeviation } from 'simple-statistics';
import { irises, normalised } from './iris.mjs';
import { classify, createNetwork, predict } from './network.mjs';

const MAX_BYTES = 48 * 1024 * 1024;
const LABEL = 'species';
/** A model that knows less of its own data set is broken. */
const LEAST_ACCURACY = 0.95;
/** Most rows whose order is looked at. */
const MAX_ORDER = 65_536;

const description = JSON.parse(readFileSync(new URL('model.json', import.meta.url), 'utf8'));
const { features, classes } = description;
const model = createNetwork(description);
const knownAccuracy = accuracyOnIrises();
if (knownAccuracy < LEAST_ACCURACY) throw new Error(`the model classifies ${(knownAccuracy * 100).toFixed(1)} % of the irises, less than ${LEAST_ACCURACY * 100} %: model.json does not belong to this network`);

export async function handler(_event, context) {
  const [input, ...more] = context.inputs;
  if (input === undefined || more.length > 0) throw new TypeError(`ml-process needs exactly one input object, a normalised table, not ${context.inputs.length}`);
  if (input.sizeBytes > MAX_BYTES) throw new RangeError(`"${input.name}" has ${input.sizeBytes} bytes, more than ${MAX_BYTES}`);
  const { rows, labels } = readRows(await readFile(input.path, 'utf8'), input.name);
  const probabilities = predict(model, rows, classes.length);
  const found = classify(probabilities, classes.length);
  const confidence = Array.from(found, (label, row) => probabilities[row * classes.length + label]);
  await writeFile(context.output('predictions.csv'), `class,probability\n${Array.from(found, (label, row) => `${classes[label]},${confidence[row].toFixed(4)}`).join('\n')}\n`);

  const counts = Object.fromEntries(classes.map((name) => [name, 0]));
  for (const label of found) counts[classes[label]]++;
  const sorted = Float64Array.from(confidence).sort();
  return {
    rows: rows.length,
    classes: counts,
    confidence: { mean: mean(confidence), deviation: standardDeviation(confidence), p05: quantileSorted(sorted, 0.05), median: quantileSorted(sorted, 0.5) },
    order: orderOf(found),
    ...compare(found, labels),
    model: { features, knownAccuracy },
  };
}

/** The features of every row, and the numbers of the classes if the table has them. */
function readRows(text, name) {
  const { data, errors, meta } = Papa.parse(text, { header: true, skipEmptyLines: true });
  const [broken] = errors;
  if (broken !== undefined && broken.type !== 'Delimiter') throw new TypeError(`"${name}" is no valid table: ${broken.message} (row ${(broken.row ?? 0) + 1})`);
  const missing = features.filter((feature) => !meta.fields?.includes(feature));
  if (missing.length > 0) throw new TypeError(`"${name}" has no column ${missing.map((feature) => `"${feature}"`).join(', ')}; it has ${(meta.fields ?? []).slice(0, 50).join(', ')}`);
  if (data.length === 0) throw new TypeError(`"${name}" has no rows`);
  const rows = data.map((row, i) => features.map((feature) => {
    const value = Number(row[feature]);
    if (row[feature].trim() === '' || !Number.isFinite(value)) throw new TypeError(`"${name}" has ${JSON.stringify(row[feature].slice(0, 40))} in column "${feature}", where a number is needed (row ${i + 1})`);
    return value;
  }));
  const labels = meta.fields?.includes(LABEL) ? data.map((row) => classes.indexOf(row[LABEL].trim().toLowerCase())) : undefined;
  return { rows, labels };
}

/** Accuracy and confusion (rows: what it is, columns: what was found) over the rows with a known class; nulls without any. */
function compare(found, labels) {
  const known = labels?.filter((label) => label >= 0).length ?? 0;
  if (known === 0) return { accuracy: null, confusion: null };
  const confusion = classes.map(() => classes.map(() => 0));
  for (const [row, label] of labels.entries()) if (label >= 0) confusion[label][found[row]]++;
  return { accuracy: confusion.reduce((sum, row, i) => sum + row[i], 0) / known, confusion };
}

/**
 * Whether classes come in a rhythm, which says that a table is sorted or made up: the period in rows whose frequency has the most power, and its
 * share of all power (near 0 for rows in no order). Null for fewer than four rows or one class only.
 */
function orderOf(found) {
  const size = 2 ** Math.floor(Math.log2(Math.min(found.length, MAX_ORDER)));
  if (size < 4) return null;
  const average = mean(Array.from(found.subarray(0, size)));
  const fft = new FFT(size);
  const spectrum = fft.createComplexArray();
  fft.realTransform(spectrum, Array.from(found.subarray(0, size), (label) => label - average));
  let total = 0;
  let strongest = { frequency: 0, power: 0 };
  for (let frequency = 1; frequency <= size / 2; frequency++) {
    const power = spectrum[2 * frequency] ** 2 + spectrum[2 * frequency + 1] ** 2;
    total += power;
    if (power > strongest.power) strongest = { frequency, power };
  }
  return total === 0 ? null : { period: size / strongest.frequency, share: strongest.power / total };
}

function accuracyOnIrises() {
  const all = irises();
  const ranges = features.map((feature) => description.ranges[feature]);
  const found = classify(predict(model, all.map((each) => normalised(each.features, ranges)), classes.length), classes.length);
  return all.filter(({ label }, i) => found[i] === label).length / all.length;
}
