/**
 * ml-normalize: brings the columns of a table (CSV with a header) into the range from 0 to 1 and writes the table as an output object.
 * Event: { "ranges"?: { column: [least, greatest] } }: these columns, by these ranges, as a model was trained with; without, every column of numbers by its
 * own. Rows with a missing number are left out and counted. The table is in memory: at most 32 MiB.
 */
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import max from 'ml-array-max';
import min from 'ml-array-min';
import rescale from 'ml-array-rescale';
import { parseTable, writeRow } from './table.mjs';

const MAX_BYTES = 32 * 1024 * 1024;
/** Digits behind the point of normalised numbers. */
const DIGITS = 6;
const ROWS_PER_CHUNK = 4096;

export async function handler(event, context) {
  const [input, ...more] = context.inputs;
  if (input === undefined || more.length > 0) throw new TypeError(`ml-normalize needs exactly one input object, a table, not ${context.inputs.length}`);
  if (input.sizeBytes > MAX_BYTES) throw new RangeError(`"${input.name}" has ${input.sizeBytes} bytes, more than ${MAX_BYTES}`);
  const ranges = checkedRanges(event?.ranges);
  const { header, rows } = parseTable(await readFile(input.path, 'utf8'), input.name);
  for (const name of Object.keys(ranges ?? {})) if (!header.includes(name)) throw new TypeError(`"${input.name}" has no column "${name}"; it has ${header.slice(0, 50).join(', ')}`);

  const chosen = header.map((name, column) => (ranges === undefined ? isNumeric(rows, column) : Object.hasOwn(ranges, name)));
  const complete = rows.filter((row) => row.every((text, column) => !chosen[column] || text.trim() !== ''));
  if (complete.length === 0) throw new TypeError(`"${input.name}" has no row without missing numbers`);
  const columns = [];
  for (const [column, name] of header.entries()) {
    if (!chosen[column]) continue;
    const values = complete.map((row, i) => numberOf(row[column], name, i, input.name));
    const [low, high] = ranges?.[name] ?? [min(values), max(values)];
    const normalised = scaled(values, low, high);
    for (const [i, row] of complete.entries()) row[column] = normalised[i].toFixed(DIGITS);
    columns.push({ name, low, high });
  }
  if (columns.length === 0) throw new TypeError(`"${input.name}" has no column of numbers`);
  await writeTable(context.output('normalized.csv'), header, complete);
  return { rows: complete.length, incomplete: rows.length - complete.length, columns, others: header.filter((_, column) => !chosen[column]) };
}

function checkedRanges(ranges) {
  if (ranges === undefined || ranges === null) return undefined;
  if (typeof ranges !== 'object' || Array.isArray(ranges) || Object.keys(ranges).length === 0) throw new TypeError(`ranges must be an object of columns, { "name": [least, greatest] }, not ${JSON.stringify(ranges)}`);
  for (const [name, range] of Object.entries(ranges)) {
    const isRange = Array.isArray(range) && range.length === 2 && range.every(Number.isFinite) && range[0] < range[1];
    if (!isRange) throw new RangeError(`the range of "${name}" must be two numbers, the smaller first, not ${JSON.stringify(range)}`);
  }
  return ranges;
}

/** Whether a column has numbers, and nothing else where it has anything. */
function isNumeric(rows, column) {
  let numbers = 0;
  for (const row of rows) {
    const text = row[column].trim();
    if (text === '') continue;
    if (!Number.isFinite(Number(text))) return false;
    numbers++;
  }
  return numbers > 0;
}

function numberOf(text, name, row, file) {
  const value = Number(text);
  if (!Number.isFinite(value)) throw new TypeError(`"${file}" has ${JSON.stringify(text.slice(0, 40))} in column "${name}", where a number is needed (row ${row + 1})`);
  return value;
}

/** Values such that `low` becomes 0 and `high` 1; a column whose values are all the same has its place in the range, or 0 without one. */
function scaled(values, low, high) {
  const least = min(values);
  const greatest = max(values);
  const place = (value) => (high > low ? (value - low) / (high - low) : 0);
  return least === greatest ? values.map(place) : rescale(values, { min: place(least), max: place(greatest) });
}

async function writeTable(path, header, rows) {
  function* chunks() {
    yield `${writeRow(header)}\n`;
    for (let at = 0; at < rows.length; at += ROWS_PER_CHUNK) yield `${rows.slice(at, at + ROWS_PER_CHUNK).map(writeRow).join('\n')}\n`;
  }
  await pipeline(Readable.from(chunks()), createWriteStream(path));
}
