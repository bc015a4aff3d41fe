import { describe, expect, it } from 'vitest';
import { csvTable, markdownTable } from '../../src/report/markdown-table.ts';

describe('a table as a file', () => {
  it('has numbers to the right and no cell that ends early', () => {
    expect(markdownTable({ header: ['a', 'b'], rows: [['x|y', '1.5 ms'], ['line\nbreak', '−2']] })).toBe('| a | b |\n|---|---:|\n| x\\|y | 1.5 ms |\n| line break | −2 |\n');
  });

  it('quotes in CSV what would be read as something else', () => {
    expect(csvTable(['a', 'b'], [['x,y', 1], ['say "no"\n', true]])).toBe('a,b\n"x,y",1\n"say ""no""\n",true\n');
  });
});
