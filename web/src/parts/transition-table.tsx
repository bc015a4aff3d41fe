/** Transitions as a table, for streams and for films. */
import type { TransitionRow } from '../../../src/inspect/page-api.ts';
import { linkTo } from '../route.ts';
import { clock, ms, spaced } from '../words.ts';
import { StateBadge } from './state-badge.tsx';
import { VirtualTable, type TableColumn } from './virtual-table.tsx';

export interface TransitionTableProps {
  readonly label: string;
  readonly length: number;
  readonly row: (i: number) => TransitionRow | undefined;
  readonly rows: number;
  /** Times are ms since the start of a simulation, and ids lead nowhere. */
  readonly isSimulated?: boolean;
  readonly empty: string;
}

/** The end tells ids apart: they begin with the start of their daemon. */
function shortId(id: string): string {
  return id.length > 13 ? `…${id.slice(-8)}` : id;
}

export function TransitionTable({ label, length, row, rows, isSimulated = false, empty }: TransitionTableProps) {
  const columns: readonly TableColumn<TransitionRow>[] = [
    { head: isSimulated ? 'ms' : 'time', width: '6.8rem', isNumber: true, cell: ({ atMs }) => (isSimulated ? ms(atMs) : clock(atMs)) },
    { head: 'invocation', width: 'minmax(5.5rem, .8fr)', cell: ({ id }) => (isSimulated ? <span class="mono">{shortId(id)}</span> : <a class="mono" href={linkTo('invocation', id)} title={id}>{shortId(id)}</a>) },
    { head: 'to', width: '11.2rem', cell: ({ from, to, delayingFor }) => <span title={`from ${spaced(from)}`}><StateBadge state={to} detail={to === 'delaying' ? delayingFor : ''} /></span> },
    { head: 'reason', width: 'minmax(5rem, 1fr)', cell: ({ reason, event, guards = [] }) => <span title={`${event}${guards.length === 0 ? '' : ` [${guards.join(', ')}]`}`}>{spaced(reason)}</span> },
    { head: 'node', width: 'minmax(3.5rem, .5fr)', cell: ({ node }) => node },
  ];
  return <VirtualTable label={label} columns={columns} length={length} row={row} rowKey={(each) => `${each.id} ${each.to} ${each.event} ${each.atMs}`} rows={rows} empty={empty} />;
}
