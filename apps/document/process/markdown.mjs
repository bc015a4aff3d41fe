/** Pieces of Markdown that several converters write. */

const MAX_COLUMNS = 1_000;
/** Places for cells in one table, used or not: one cell far to the right makes all rows as long. */
const MAX_CELLS = 4_000_000;

/** A heading; without text there is none. */
export function heading(level, text) {
  const line = oneLine(text);
  return line === '' ? '' : `${'#'.repeat(Math.min(level, 6))} ${escape(line)}`;
}

/** A table; the first row is its head. Short rows and holes are filled up. An empty string without any cell, RangeError if it is too large. */
export function table(rows) {
  const columns = Math.min(rows.reduce((most, row) => Math.max(most, row.length), 0), MAX_COLUMNS);
  if (columns === 0) return '';
  if (columns * rows.length > MAX_CELLS) throw new RangeError(`a table of ${rows.length} rows and ${columns} columns is too large; at most ${MAX_CELLS} cells`);
  const line = (cells) => `| ${Array.from({ length: columns }, (_, i) => cell(cells[i] ?? '')).join(' | ')} |`;
  const [head, ...body] = rows;
  return [line(head), `| ${Array.from({ length: columns }, () => '---').join(' | ')} |`, ...body.map(line)].join('\n');
}

/** The text of a cell: one line, in which nothing ends the cell. */
function cell(text) {
  return escape(oneLine(text));
}

/** What would be read as Markdown, marked as text. */
export function escape(text) {
  return text.replaceAll(/[\\`*_[\]<>|~]/g, String.raw`\$&`).replace(/^(#{1,6}\s|[-+](?=\s)|\d+(?=[.)]\s))/, (mark) => (/^\d/.test(mark) ? `${mark}\\` : `\\${mark}`));
}

function oneLine(text) {
  return text.replaceAll(/\s+/g, ' ').trim();
}
