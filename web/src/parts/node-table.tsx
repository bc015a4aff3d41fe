/** Nodes as a table: what the heat map shows, in words and numbers. */
import type { NodeCell } from '../../../src/inspect/page-api.ts';
import { linkTo } from '../route.ts';
import { formatBytes, percent } from '../words.ts';
import { StateBadge } from './state-badge.tsx';
import { VirtualTable, type TableColumn } from './virtual-table.tsx';

const MOST_ROWS = 16;

const COLUMNS: readonly TableColumn<NodeCell>[] = [
  { head: 'node', width: 'minmax(6rem, 1fr)', cell: ({ name }) => <a href={linkTo('cluster', name)}>{name}</a> },
  { head: 'state', width: '6.5rem', cell: ({ state }) => <StateBadge state={state} /> },
  { head: 'slots', width: '7.5rem', cell: ({ used, slots }) => <Meter value={used} of={slots} said={`${used} of ${slots}`} /> },
  { head: 'waiting', width: '4.6rem', isNumber: true, cell: ({ waiting }) => <span class={waiting > 0 ? 'is-waiting' : 'soft'}>{waiting}</span> },
  { head: 'warm', width: '4rem', isNumber: true, cell: ({ warm }) => warm },
  { head: 'zygotes', width: '4.6rem', isNumber: true, cell: ({ zygotes }) => Math.round(zygotes) },
  { head: 'CPU', width: '6.5rem', cell: ({ cpu }) => <Meter value={cpu} of={1} said={percent(cpu)} /> },
  { head: 'memory', width: '6.5rem', cell: ({ memoryUsed }) => <Meter value={memoryUsed} of={1} said={percent(memoryUsed)} /> },
  { head: 'data held', width: '6rem', isNumber: true, cell: ({ objectBytes }) => formatBytes(objectBytes) },
  { head: 'fetches at', width: '7rem', isNumber: true, cell: ({ fetchBytesPerS }) => (fetchBytesPerS > 0 ? `${formatBytes(Math.round(fetchBytesPerS))}/s` : '–') },
];

/** Beside a node from near there is room for less. */
const SHORT = COLUMNS.filter(({ head }) => ['node', 'state', 'slots', 'waiting', 'warm', 'CPU'].includes(head));

export interface NodeTableProps {
  readonly label: string;
  readonly nodes: readonly NodeCell[];
  readonly selected?: string;
  readonly isShort?: boolean;
  readonly empty: string;
}

export function NodeTable({ label, nodes, selected = '', isShort = false, empty }: NodeTableProps) {
  return <VirtualTable label={label} columns={isShort ? SHORT : COLUMNS} length={nodes.length} row={(i) => nodes[i]} rowKey={({ name }) => name} isSelected={({ name }) => name === selected} rows={Math.min(MOST_ROWS, Math.max(4, nodes.length))} empty={empty} />;
}

function Meter({ value, of, said }: { readonly value: number; readonly of: number; readonly said: string }) {
  return <span class="meter"><i aria-hidden="true"><b style={{ width: `${Math.min(100, (100 * value) / Math.max(1e-9, of))}%` }} /></i>{said}</span>;
}
