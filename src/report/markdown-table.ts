/** Tables as files: Markdown for people, CSV for programs. */

/** A table of text. */
export interface TextTable {
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** As Markdown; numbers to the right. Bars in cells are written so that they do not end them. */
export function markdownTable({ header, rows }: TextTable): string {
  const escape = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
  const isNumber = header.map((_, column) => rows.length > 0 && rows.every((row) => /^[−-]?[\d.…]|^$|^n\/a$/.test(row[column] ?? '')));
  const line = (cells: readonly string[]): string => `| ${cells.map(escape).join(' | ')} |`;
  return [line(header), `|${isNumber.map((is) => (is ? '---:' : '---')).join('|')}|`, ...rows.map(line)].join('\n') + '\n';
}

/** As CSV after RFC 4180, with a header line. */
export function csvTable(header: readonly string[], rows: readonly (readonly (string | number | boolean)[])[]): string {
  const cell = (value: string | number | boolean): string => {
    const text = String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [header, ...rows].map((row) => `${row.map(cell).join(',')}\n`).join('');
}
