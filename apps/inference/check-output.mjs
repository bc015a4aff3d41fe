/** Compares what ml-inference says about each row of a table with what the maker computed, and the summary with both. */
import { readFile } from 'node:fs/promises';

const LEAST_ACCURACY = 0.95;
const CLASSES = ['setosa', 'versicolor', 'virginica'];

/** What differs, one line each; nothing if all is right. `result` is what ml-process returned, `outputs` its object as a file. */
export async function checkOutput({ truth, result, outputs }) {
  if (result === null || typeof result !== 'object') return [`the result is ${JSON.stringify(result)}`];
  if (outputs.length !== 1) return [`there are ${outputs.length} output objects, not one`];
  const [header, ...rows] = (await readFile(outputs[0].path, 'utf8')).trimEnd().split('\n').map((line) => line.split(','));
  const problems = [];
  if (header.join() !== 'class,probability') problems.push(`the columns of the predictions are ${header.join()}`);
  if (rows.length !== truth.rows || result.rows !== truth.rows) problems.push(`there are ${rows.length} predictions and ${result.rows} rows in the result, not ${truth.rows}`);
  const uncertain = [...truth.predictions].filter((label) => label === '?').length;
  const wrong = [...truth.predictions].flatMap((label, i) => (label === '?' || rows[i]?.[0] === CLASSES[label] ? [] : [i]));
  if (wrong.length > 0) problems.push(`${wrong.length} rows have another class; the first is row ${wrong[0] + 1}: ${rows[wrong[0]]?.[0]}, not ${CLASSES[truth.predictions[wrong[0]]]}`);
  if (rows.some(([, probability]) => !(probability >= 1 / 3 - 1e-4 && probability <= 1))) problems.push('there are probabilities below a third or above 1');
  for (const name of CLASSES) {
    const counted = rows.filter(([label]) => label === name).length;
    if (result.classes?.[name] !== counted || Math.abs(counted - truth.classes[name]) > uncertain) problems.push(`${name} is counted ${result.classes?.[name]} times, written ${counted} times and should be ${truth.classes[name]}`);
  }
  if (Math.abs(result.accuracy - truth.accuracy) > uncertain / truth.rows + 1e-9) problems.push(`the accuracy is ${result.accuracy}, not ${truth.accuracy}`);
  // Few rows have more luck than accuracy.
  if (truth.rows >= 500 && !(result.accuracy >= LEAST_ACCURACY)) problems.push(`the accuracy is ${result.accuracy}, less than ${LEAST_ACCURACY}`);
  return problems;
}
