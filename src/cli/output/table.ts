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
  /** Left out, the last one first, when the table does not fit. */
  readonly optional?: boolean;
  /** Never cut: ids that people copy. */
  readonly whole?: boolean;
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
  let shown = columns
    .filter((column) => options.wide === true || column.wide !== true)
    .map((column) => {
      const texts = rows.map((row) => oneLine(column.cell(row)));
      return { ...column, texts, width: texts.reduce((most, text) => Math.max(most, textWidth(text)), textWidth(column.header)) };
    });
  if (options.width !== undefined) {
    const tooWide = (): boolean => shown.reduce((sum, { width }) => sum + width, 0) + GAP.length * (shown.length - 1) > (options.width ?? 0);
    for (let last = shown.findLast(({ optional }) => optional === true); last !== undefined && tooWide(); last = shown.findLast(({ optional }) => optional === true)) {
      const dropped = last;
      shown = shown.filter((column) => column !== dropped);
    }
    shrink(shown, options.width - GAP.length * (shown.length - 1));
  }
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, i) => {
        const width = shown[i]?.width ?? 0;
        const cut = cutTo(text, width);
        const pad = ' '.repeat(Math.max(0, width - textWidth(cut)));
        return shown[i]?.align === 'right' ? pad + cut : cut + pad;
      })
      .join(GAP)
      .trimEnd();
  const header = line(shown.map((column) => column.header));
  return `${[options.paintHeader === undefined ? header : options.paintHeader(header), ...rows.map((_, at) => line(shown.map(({ texts }) => texts[at] ?? '')))].join('\n')}\n`;
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
function shrink(columns: readonly { width: number; readonly whole?: boolean }[], available: number): void {
  let excess = columns.reduce((sum, { width }) => sum + width, 0) - available;
  const flexible = columns.filter(({ whole }) => whole !== true);
  while (excess > 0) {
    const widest = Math.max(0, ...flexible.map(({ width }) => width));
    if (widest <= MIN_WIDTH) return;
    const next = Math.max(MIN_WIDTH, ...flexible.map(({ width }) => width).filter((width) => width < widest));
    const cut = Math.max(1, Math.min(excess, widest - next));
    for (const column of flexible.filter(({ width }) => width === widest).slice(-1)) column.width -= cut;
    excess -= cut;
  }
}
