/** Prints what a command found in the form that was asked for: table, wide, json or yaml. Data goes to stdout, the rest to stderr. */
import { stringify } from 'yaml';
import { paint, type CliIo } from '../io.ts';
import { renderFields, renderTable, type Column } from './table.ts';

/** The forms of output. */
export const OUTPUT_FORMATS = ['table', 'wide', 'json', 'yaml'] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

/** Prints for one command. */
export interface Printer {
  readonly format: OutputFormat;
  /** True for json and yaml. */
  readonly isStructured: boolean;
  /** A list: a table, or an array of `toJson`. `empty` goes to stderr when there is nothing. */
  list<Row>(rows: readonly Row[], columns: readonly Column<Row>[], toJson: (row: Row) => unknown, empty: string): void;
  /** One thing: names and values, or `toJson()`. */
  one(fields: readonly (readonly [name: string, value: string])[], toJson: () => unknown): void;
  /** Anything as json or yaml. */
  structured(value: unknown): void;
  /** A table that is printed in the forms for people only. */
  table<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): void;
  /** Text to stdout as it is. */
  text(text: string): void;
  /** A line to stderr, unless --quiet. */
  progress(line: string): void;
  /** A line to stderr also with --quiet. */
  warn(line: string): void;
}

/** A printer for these options. */
export function createPrinter(io: CliIo, options: { readonly output: OutputFormat; readonly quiet: boolean }): Printer {
  const format = options.output;
  const structured = (value: unknown): void => io.out(format === 'yaml' ? stringify(value, { lineWidth: 0 }) : `${JSON.stringify(value, null, 2)}\n`);
  const isStructured = format === 'json' || format === 'yaml';
  const printer: Printer = {
    format,
    isStructured,
    structured,
    list(rows, columns, toJson, empty) {
      if (isStructured) structured(rows.map(toJson));
      else if (rows.length === 0) printer.progress(empty);
      else printer.table(rows, columns);
    },
    one(fields, toJson) {
      if (isStructured) structured(toJson());
      else io.out(renderFields(fields));
    },
    table(rows, columns) {
      io.out(renderTable(rows, columns, { width: format === 'wide' ? undefined : io.columns, wide: format === 'wide', paintHeader: (text) => paint(io.outColor, 'bold', text) }));
    },
    text: (text) => io.out(text),
    progress(line) {
      if (!options.quiet) io.err(`${line}\n`);
    },
    warn: (line) => io.err(`${paint(io.errColor, 'yellow', 'warning')} ${line}\n`),
  };
  return printer;
}
