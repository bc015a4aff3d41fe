/** Excel → Markdown: a heading and a table for each visible sheet. Numbers, dates, truth values, formulas (their stored results) and text in all three forms. */
import { heading, table } from './markdown.mjs';
import { neededText, partText, unpack } from './parts.mjs';
import { child, children, parseXml, relationId, relations, targetOf, textOf } from './xml.mjs';

const WORKBOOK = 'xl/workbook.xml';
const MAX_CELLS = 2_000_000;
/** Builtin formats of numbers that show days and times. */
const isBuiltinDate = (id) => (id >= 14 && id <= 22) || (id >= 45 && id <= 47);
/** About so much of a sheet is parsed at once. */
const PIECE_CHARACTERS = 500_000;
const DAY_MS = 86_400_000;
/** Day 0 of Excel's calendar, which believes that 1900 was a leap year. */
const EPOCH_1900 = Date.UTC(1899, 11, 30);
const EPOCH_1904 = Date.UTC(1904, 0, 1);

export function xlsxToMarkdown(bytes, { name }) {
  const parts = unpack(bytes, name, (part) => /^xl\/(workbook|sharedStrings|styles)\.xml$|^xl\/_rels\/workbook\.xml\.rels$|^xl\/worksheets\/[^/]+\.xml$/.test(part));
  const rootOf = (part) => {
    const text = partText(parts, part, name);
    return text === undefined ? undefined : parseXml(text, part, name);
  };
  const workbook = parseXml(neededText(parts, WORKBOOK, name), WORKBOOK, name);
  const targets = relations(parseXml(neededText(parts, 'xl/_rels/workbook.xml.rels', name), 'xl/_rels/workbook.xml.rels', name));
  const shared = children(rootOf('xl/sharedStrings.xml') ?? { nodes: [] }, 'si').map(stringOf);
  const context = { shared, isDate: dateStyles(rootOf('xl/styles.xml')), epoch: /^(1|true)$/.test(child(workbook, 'workbookPr')?.attributes.date1904 ?? '') ? EPOCH_1904 : EPOCH_1900, name, cells: 0 };
  const sheets = children(child(workbook, 'sheets') ?? { nodes: [] }, 'sheet').filter(({ attributes }) => (attributes.state ?? 'visible') === 'visible');
  const blocks = sheets.flatMap((sheet) => {
    const { attributes } = sheet;
    const part = targetOf(WORKBOOK, targets.get(relationId(sheet)) ?? '');
    const text = partText(parts, part, name);
    if (text === undefined) throw new TypeError(`"${name}" is damaged: the workbook names the sheet "${attributes.name}", but there is no ${part}`);
    return [heading(2, attributes.name ?? 'Sheet'), table(rowsOf(text, part, context))];
  });
  return { markdown: blocks.filter((block) => block !== '').join('\n\n'), sheets: sheets.length, cells: context.cells };
}

/** Text of a string with its runs, without the readings that Japanese files add. */
function stringOf(item) {
  return children(item, 't', 'r').map((run) => textOf(run, 't')).join('');
}

/** By number of a cell's style: whether it shows a date. */
function dateStyles(styles) {
  if (styles === undefined) return () => false;
  const own = new Map(children(child(styles, 'numFmts') ?? { nodes: [] }, 'numFmt').map(({ attributes }) => [Number(attributes.numFmtId), attributes.formatCode ?? '']));
  const dates = children(child(styles, 'cellXfs') ?? { nodes: [] }, 'xf').map(({ attributes }) => {
    const id = Number(attributes.numFmtId ?? 0);
    const code = own.get(id);
    // Letters of dates outside quotes, brackets and escapes.
    return code === undefined ? isBuiltinDate(id) : /[dmyhs]/i.test(code.replaceAll(/"[^"]*"|\[[^\]]*\]|\\./g, ''));
  });
  return (style) => dates[style] ?? false;
}

/** The rows as text; what lies before the first used row and column is left out, empty rows too. */
function rowsOf(text, part, context) {
  const rows = [];
  let first = Infinity;
  for (const row of rowElements(text, part, context.name)) {
    const cells = [];
    let column = 0;
    for (const each of children(row, 'c')) {
      column = columnOf(each.attributes.r) ?? column;
      if (++context.cells > MAX_CELLS) throw new RangeError(`"${context.name}" has more than ${MAX_CELLS} cells`);
      const text = valueOf(each, context);
      if (text !== '') {
        if (column >= 16_384) throw new TypeError(`"${context.name}" is damaged: a cell in column ${column + 1}`);
        cells[column] = text;
        first = Math.min(first, column);
      }
      column++;
    }
    if (cells.length > 0) rows.push(cells);
  }
  return rows.map((cells) => cells.slice(first));
}

/** The rows of a sheet, a piece of it at a time: a tree of all cells would be twenty times as large as the text. */
function* rowElements(text, part, name) {
  const [opening, prefix, isEmpty] = /<((?:[\w.-]+:)?)sheetData\s*(\/?)>/.exec(text) ?? [];
  if (opening === undefined) parseXml(text, part, name); // says what is wrong with it; without anything wrong it is a sheet of another kind, such as a chart
  if (opening === undefined || isEmpty !== '') return;
  const start = text.indexOf(opening) + opening.length;
  const end = text.indexOf(`</${prefix}sheetData>`, start);
  if (end < 0) throw new TypeError(`"${name}" is damaged: the rows of ${part} have no end`);
  const rowEnd = `</${prefix}row>`;
  for (let at = start; at < end; ) {
    let cut = text.lastIndexOf(rowEnd, at + PIECE_CHARACTERS);
    if (cut < at) cut = text.indexOf(rowEnd, at);
    cut = cut < at ? end : Math.min(cut + rowEnd.length, end);
    yield* children(parseXml(`<rows>${text.slice(at, cut)}</rows>`, part, name), 'row');
    at = cut;
  }
}

/** "BC12" → 54; undefined without a reference. */
function columnOf(reference) {
  const letters = /^([A-Z]{1,3})\d+$/.exec(reference ?? '')?.[1];
  return letters === undefined ? undefined : [...letters].reduce((column, letter) => column * 26 + letter.charCodeAt(0) - 64, 0) - 1;
}

function valueOf(cell, { shared, isDate, epoch, name }) {
  const { t: type = 'n', s: style = '0' } = cell.attributes;
  if (type === 'inlineStr') return stringOf(child(cell, 'is') ?? { nodes: [] });
  const value = child(cell, 'v') === undefined ? '' : textOf(child(cell, 'v'), 'v');
  if (value === '') return '';
  if (type === 's') {
    const text = shared[Number(value)];
    if (text === undefined) throw new TypeError(`"${name}" is damaged: cell ${cell.attributes.r ?? '?'} names string ${value} of ${shared.length}`);
    return text;
  }
  if (type === 'b') return value === '1' ? 'TRUE' : 'FALSE';
  if (type !== 'n') return value; // text of a formula, an error such as #N/A, an ISO date
  const number = Number(value);
  if (Number.isNaN(number)) return value;
  // 17 digits are stored; 15 are what Excel shows.
  return isDate(Number(style)) ? dateText(number, epoch) : String(Number(number.toPrecision(15)));
}

function dateText(days, epoch) {
  const date = new Date(epoch + Math.round(days * DAY_MS));
  if (Number.isNaN(date.getTime())) return String(days);
  const iso = date.toISOString();
  return days % 1 === 0 ? iso.slice(0, 10) : iso.slice(0, 19).replace('T', ' ');
}
