import { describe, expect, it } from 'vitest';
import { renderFields, renderTable, type Column } from '../../src/cli/output/table.ts';

interface Row {
  readonly name: string;
  readonly count: number;
  readonly note: string;
}

const columns: readonly Column<Row>[] = [
  { header: 'NAME', cell: ({ name }) => name },
  { header: 'COUNT', align: 'right', cell: ({ count }) => String(count) },
  { header: 'NOTE', wide: true, cell: ({ note }) => note },
];
const rows: readonly Row[] = [{ name: 'a', count: 5, note: 'x' }, { name: 'longer-name', count: 1_234_567, note: '' }];

describe('a table', () => {
  it('aligns text to the left and numbers to the right, without trailing blanks', () => {
    expect(renderTable(rows, columns)).toBe(['NAME           COUNT', 'a                  5', 'longer-name  1234567', ''].join('\n'));
  });

  it('shows wide columns only when asked', () => {
    expect(renderTable(rows, columns, { wide: true }).split('\n')[0]).toBe('NAME           COUNT  NOTE');
  });

  it('is only a header without rows', () => {
    expect(renderTable([], columns)).toBe('NAME  COUNT\n');
  });

  it('cuts the widest columns to the width of the terminal and marks the cut', () => {
    const long = [{ name: 'x'.repeat(100), count: 1, note: '' }];
    const lines = renderTable(long, columns, { width: 30 }).trimEnd().split('\n');
    expect(lines.every((line) => [...line].length <= 30)).toBe(true);
    expect(lines[1]).toContain('…');
    expect(lines[1]?.endsWith('    1')).toBe(true);
  });

  it('does not cut below what can be read, even if the terminal is tiny', () => {
    expect(renderTable(rows, columns, { width: 5 })).toContain('longe…');
  });

  it('keeps one line a row and shows control characters as symbols, because cells hold what functions wrote', () => {
    const text = renderTable([{ name: 'a\nb\u001b[31mred\u0007\tc', count: 1, note: '' }], columns);
    expect(text.split('\n')).toHaveLength(3);
    expect(text).toContain('a⏎b·[31mred· c');
    expect(text).not.toContain('\u001b');
  });

  it('counts characters, not code units', () => {
    expect(renderTable([{ name: '😀😀', count: 1, note: '' }, { name: 'abcd', count: 2, note: '' }], columns).split('\n')[1]).toBe('😀😀        1');
  });
});

describe('fields', () => {
  it('are aligned, and further lines of a value are indented under it', () => {
    expect(renderFields([['Name', 'x'], ['Environment', 'A=1\nB=2']])).toBe('Name:         x\nEnvironment:  A=1\n              B=2\n');
  });
});
