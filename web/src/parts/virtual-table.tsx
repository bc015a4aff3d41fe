/** A table of any length of which only the rows in sight are in the document. Rows have one height; cells are cut, not wrapped. */
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

const ROW_PX = 28;
/** Rows beyond the edges that are drawn too. */
const AHEAD = 6;

export interface TableColumn<T> {
  readonly head: string;
  /** Of CSS grid: "8rem", "minmax(6rem, 1fr)". */
  readonly width: string;
  readonly isNumber?: boolean;
  cell(row: T): ComponentChildren;
}

export interface VirtualTableProps<T> {
  /** What it is, for screen readers. */
  readonly label: string;
  readonly columns: readonly TableColumn<T>[];
  readonly length: number;
  readonly row: (i: number) => T | undefined;
  readonly rowKey: (row: T) => string;
  readonly isSelected?: (row: T) => boolean;
  /** Height of the body in rows. */
  readonly rows: number;
  /** What stands there when it has no rows. */
  readonly empty: string;
  /** The last row came into sight. */
  readonly onEnd?: (() => void) | undefined;
}

/** Narrower than that the table scrolls sideways. */
function leastRem(columns: readonly { readonly width: string }[]): number {
  return columns.reduce((sum, { width }) => sum + Number(/[\d.]+(?=rem)/.exec(width)?.[0] ?? 4) + 0.75, 1.5);
}

export function VirtualTable<T>({ label, columns, length, row, rowKey, isSelected, rows, empty, onEnd }: VirtualTableProps<T>) {
  const body = useRef<HTMLDivElement>(null);
  const [first, setFirst] = useState(0);
  const due = useRef(0);
  // One look per frame, however often the browser reports a scroll.
  const onScroll = (): void => {
    if (due.current !== 0) return;
    due.current = requestAnimationFrame(() => {
      due.current = 0;
      setFirst(Math.max(0, Math.floor((body.current?.scrollTop ?? 0) / ROW_PX) - AHEAD));
    });
  };
  useEffect(() => () => cancelAnimationFrame(due.current), []);
  const begin = Math.max(0, Math.min(first, length - rows - 2 * AHEAD));
  const end = Math.min(length, begin + rows + 2 * AHEAD);
  useLayoutEffect(() => {
    if (end === length && length > 0) onEnd?.();
  }, [end, length]);
  const template = columns.map(({ width }) => width).join(' ');
  const shown: T[] = [];
  for (let i = begin; i < end; i++) {
    const each = row(i);
    if (each !== undefined) shown.push(each);
  }
  return (
    <div class="table" role="table" aria-label={label} aria-rowcount={length + 1} style={{ '--columns': template, '--least': `${leastRem(columns)}rem` }}>
      <div role="rowgroup" class="table-head">
        <div role="row" aria-rowindex={1} class="table-row">
          {columns.map(({ head, isNumber }) => <span role="columnheader" key={head} class={isNumber === true ? 'number' : ''}>{head}</span>)}
        </div>
      </div>
      <div role="rowgroup" class="table-body" ref={body} onScroll={onScroll} tabIndex={0} aria-label={`${label}, rows`} style={{ height: `${rows * ROW_PX}px` }}>
        {length === 0 && <div role="row" class="table-empty"><span role="cell">{empty}</span></div>}
        <div role="presentation" style={{ height: `${length * ROW_PX}px`, position: 'relative' }}>
          <div role="presentation" style={{ transform: `translateY(${begin * ROW_PX}px)` }}>
            {shown.map((each, i) => (
              <div role="row" aria-rowindex={begin + i + 2} class={`table-row${isSelected?.(each) === true ? ' is-selected' : ''}`} key={rowKey(each)}>
                {columns.map(({ head, isNumber, cell }) => <span role="cell" key={head} class={isNumber === true ? 'number' : ''}>{cell(each)}</span>)}
              </div>
            ))}
          </div>
        </div>
      </div>
    </div>
  );
}
