/** CSV → one Markdown table. The first row is the head. */
import iconv from 'iconv-lite';
import Papa from 'papaparse';
import { table } from './markdown.mjs';

const MAX_ROWS = 1_000_000;

/** Text of bytes in an encoding by its name; UTF-8 without one. TypeError if nobody knows the encoding. */
export function decode(bytes, charset = 'utf-8', name) {
  if (!iconv.encodingExists(charset)) throw new TypeError(`"${name}" is in the encoding "${charset}", which is not known`);
  return iconv.decode(bytes, charset); // without a byte order mark
}

export function csvToMarkdown(bytes, { name, charset, delimiter }) {
  const { data, errors } = Papa.parse(decode(bytes, charset, name), { delimiter: delimiter ?? '', skipEmptyLines: true });
  const broken = errors.find(({ type }) => type === 'Quotes');
  if (broken !== undefined) throw new TypeError(`"${name}" is no valid CSV: ${broken.message} (row ${(broken.row ?? 0) + 1})`);
  if (data.length === 0) throw new TypeError(`"${name}" has no rows`);
  if (data.length > MAX_ROWS) throw new RangeError(`"${name}" has ${data.length} rows, more than ${MAX_ROWS}`);
  return { markdown: table(data), columns: data[0].length };
}
