/** Tables for terminals: aligned columns, numbers to the right, cut to the width of the terminal. */

/** One column of a table. */
export interface Column<Row> {
  readonly header: string;
  /** The cell; control characters are made visible by the table. */
  readonly cell: (row: Row) => string;
  /** @default 'left' */
  readonly align?: 'left' | 'right';
  /** Only in wide tables. */
  readonly wide?: boolean;
}

/** How to render. */
export interface TableOptions {
  /** Width to keep within; undefined: as wide as it becomes. */
  readonly width?: number | undefined;
  /** Whether wide columns are shown. */
  readonly wide?: boolean;
  /** Applied to the header line. */
  readonly paintHeader?: (text: string) => string;
}

const GAP = '  ';
/** A column is not cut below this. */
const MIN_WIDTH = 6;

/** The table, one line per row, each ended by a newline. Without rows only the header. */
export function renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[], options: TableOptions = {}): string {
  const shown = columns.filter((column) => options.wide === true || column.wide !== true);
  const cells = rows.map((row) => shown.map((column) => oneLine(column.cell(row))));
  const widths = shown.map((column, i) => Math.max(textWidth(column.header), ...cells.map((line) => textWidth(line[i] ?? ''))));
  if (options.width !== undefined) shrink(widths, options.width - GAP.length * (shown.length - 1));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, i) => {
        const width = widths[i] ?? 0;
        const cut = cutTo(text, width);
        const pad = ' '.repeat(Math.max(0, width - textWidth(cut)));
        return shown[i]?.align === 'right' ? pad + cut : cut + pad;
      })
      .join(GAP)
      .trimEnd();
  const header = line(shown.map((column) => column.header));
  return `${[options.paintHeader === undefined ? header : options.paintHeader(header), ...cells.map(line)].join('\n')}\n`;
}

/** Names and values below each other; names are padded to one width. */
export function renderFields(fields: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(0, ...fields.map(([name]) => textWidth(name)));
  return fields.map(([name, value]) => `${name}:${' '.repeat(width - textWidth(name) + 2)}${value.replaceAll('\n', `\n${' '.repeat(width + 3)}`)}\n`).join('');
}

/** Text on one line: what would move the cursor or change colours is shown as a symbol, because cells hold what functions wrote. */
export function oneLine(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (char) => (char === '\n' ? '⏎' : char === '\t' ? ' ' : '·'));
}

/** The same for text of several lines. */
export function harmless(text: string): string {
  // oxlint-disable-next-line no-control-regex -- see above
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (char) => (char === '\r' ? '' : '·'));
}

/** Columns that a text takes: code points. Wide characters do not occur in what we name. */
function textWidth(text: string): number {
  let width = 0;
  for (const _ of text) width++;
  return width;
}

function cutTo(text: string, width: number): string {
  if (textWidth(text) <= width) return text;
  return `${[...text].slice(0, Math.max(0, width - 1)).join('')}…`;
}

/** Takes from the widest columns until all fit or none can be cut any further. */
function shrink(widths: number[], available: number): void {
  let excess = widths.reduce((sum, width) => sum + width, 0) - available;
  while (excess > 0) {
    const widest = Math.max(...widths);
    if (widest <= MIN_WIDTH) return;
    const at = widths.lastIndexOf(widest);
    const next = Math.max(MIN_WIDTH, ...widths.filter((width) => width < widest));
    const cut = Math.max(1, Math.min(excess, widest - next));
    widths[at] = widest - cut;
    excess -= cut;
  }
}
