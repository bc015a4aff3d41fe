/** Invocations as a table; the id is the link. */
import { clock, ms } from '../words.ts';
import type { Listed } from '../invocation-list.ts';
import { StateBadge } from './state-badge.tsx';
import { VirtualTable, type TableColumn } from './virtual-table.tsx';
import type { InvocationRow } from '../../../src/inspect/page-api.ts';

export interface InvocationTableProps {
  readonly label: string;
  readonly list: Pick<Listed, 'rows' | 'hasMore' | 'error' | 'isLoading'> & { readonly more?: () => void };
  readonly linkOf: (row: InvocationRow) => string;
  readonly selected?: string;
  readonly rows: number;
  readonly empty: string;
  /** Heads of columns that are left out: what stands above the table already, or has no room. */
  readonly without?: readonly string[];
}

function columnsOf(linkOf: InvocationTableProps['linkOf']): TableColumn<InvocationRow>[] {
  return [
    { head: 'invocation', width: 'minmax(7rem, 1.4fr)', cell: (row) => <a class="mono" href={linkOf(row)} title={row.id}>{row.id}</a> },
    { head: 'function', width: 'minmax(5rem, 1fr)', cell: (row) => row.function },
    { head: 'state', width: '10.5rem', cell: (row) => <StateBadge state={row.state} detail={row.state === 'delaying' ? row.delayingFor : ''} /> },
    { head: 'node', width: 'minmax(4.5rem, .7fr)', cell: (row) => row.node },
    { head: 'ms', width: '4.5rem', isNumber: true, cell: (row) => <span class={row.slaMs > 0 && row.latencyMs > row.slaMs ? 'is-late' : ''}>{ms(row.latencyMs)}</span> },
    { head: 'of', width: '4rem', isNumber: true, cell: (row) => <span class="soft">{ms(row.slaMs)}</span> },
    { head: 'arrived', width: '7rem', isNumber: true, cell: (row) => clock(row.arrivedAtMs) },
  ];
}

export function InvocationTable({ label, list, linkOf, selected = '', rows, empty, without = [] }: InvocationTableProps) {
  const columns: readonly TableColumn<InvocationRow>[] = columnsOf(linkOf).filter(({ head }) => !without.includes(head));
  return (
    <>
      {list.error !== '' && <p class="error" role="alert">{list.error}</p>}
      <VirtualTable label={label} columns={columns} length={list.rows.length} row={(i) => list.rows[i]} rowKey={({ id }) => id} isSelected={({ id }) => id === selected} rows={rows} empty={list.isLoading ? 'Asking …' : empty} onEnd={list.hasMore ? list.more : undefined} />
    </>
  );
}
