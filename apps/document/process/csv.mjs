/** CSV → one Markdown table. The first row is the head. */
import Papa from 'papaparse';
import { decode } from './encoding.mjs';
import { table } from './markdown.mjs';

const MAX_ROWS = 1_000_000;

export function csvToMarkdown(bytes, { name, charset, delimiter }) {
  const { data, errors } = Papa.parse(decode(bytes, charset, name), { delimiter: delimiter ?? '', skipEmptyLines: true });
  const broken = errors.find(({ type }) => type === 'Quotes');
  if (broken !== undefined) throw new TypeError(`"${name}" is no valid CSV: ${broken.message} (row ${(broken.row ?? 0) + 1})`);
  if (data.length === 0) throw new TypeError(`"${name}" has no rows`);
  if (data.length > MAX_ROWS) throw new RangeError(`"${name}" has ${data.length} rows, more than ${MAX_ROWS}`);
  return { markdown: table(data), columns: data[0].length };
}
