/** Tables as CSV: one line per row, commas, quotes where needed; a first row that names the columns. */

const MAX_COLUMNS = 1_000;

/** { header, rows } with all cells as text. TypeError if it is no such table; the message names the line. */
export function parseTable(text, file) {
  const lines = text.replace(/^\uFEFF/, '').split(/\r\n|\n/);
  while (lines.at(-1)?.trim() === '') lines.pop();
  if (lines.length === 0) throw new TypeError(`"${file}" is empty`);
  if (text.includes('\0')) throw new TypeError(`"${file}" is no text: it has zero bytes`);
  const header = parseRow(lines[0], 1, file).map((name) => name.trim());
  if (header.length > MAX_COLUMNS) throw new RangeError(`"${file}" has ${header.length} columns, more than ${MAX_COLUMNS}`);
  if (header.every((name) => name !== '' && Number.isFinite(Number(name)))) throw new TypeError(`"${file}" has no header: its first line is "${lines[0].slice(0, 80)}", all numbers`);
  const twice = header.find((name, i) => header.indexOf(name) !== i);
  if (twice !== undefined) throw new TypeError(`"${file}" has two columns "${twice}"`);
  if (lines.length === 1) throw new TypeError(`"${file}" has a header and no rows`);
  const rows = [];
  for (let i = 1; i < lines.length; i++) {
    if (lines[i].trim() === '') continue;
    const row = parseRow(lines[i], i + 1, file);
    if (row.length !== header.length) throw new TypeError(`"${file}" has ${row.length} cells in line ${i + 1}, but ${header.length} columns`);
    rows.push(row);
  }
  return { header, rows };
}

/** A row as text. */
export function writeRow(cells) {
  return cells.map((text) => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)).join(',');
}

function parseRow(line, number, file) {
  if (!line.includes('"')) return line.split(',');
  const cells = [];
  for (let at = 0; at <= line.length; at++) {
    let end;
    if (line[at] === '"') {
      let text = '';
      for (at++; ; at = end + 2) {
        end = line.indexOf('"', at);
        if (end < 0) throw new TypeError(`"${file}" has a quote that does not end in line ${number}`);
        text += line.slice(at, end);
        if (line[end + 1] !== '"') break;
        text += '"';
      }
      if (line[end + 1] !== undefined && line[end + 1] !== ',') throw new TypeError(`"${file}" has text behind a closing quote in line ${number}`);
      cells.push(text);
      at = end + 1;
    } else {
      end = line.indexOf(',', at);
      if (end < 0) end = line.length;
      cells.push(line.slice(at, end));
      at = end;
    }
  }
  return cells;
}
