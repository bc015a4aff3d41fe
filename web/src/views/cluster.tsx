/** Cluster: nodes × slots as a heat map, what every node holds, and one node from near. */
import { useState } from 'preact/hooks';
import type { NodeCell, NodeDetail, NodeList } from '../../../src/inspect/page-api.ts';
import { apiUrl, send, useAnswer } from '../api.ts';
import { restarts, tick } from '../live.ts';
import { Confirm } from '../parts/confirm.tsx';
import { InvocationTable } from '../parts/invocation-table.tsx';
import { NodeMap } from '../parts/node-map.tsx';
import { NodeTable } from '../parts/node-table.tsx';
import { StateBadge } from '../parts/state-badge.tsx';
import { go, linkTo, linkWith, route } from '../route.ts';
import { count, exact, formatBytes, percent, spaced } from '../words.ts';

const NO_NODES: readonly NodeCell[] = [];
const REFRESH_MS = 1_000;
/** Nodes that a tick carries at most; all of them are asked for when the reader wants that. */
const TICK_NODES = 256;
const ALL_MS = 2_000;

export function Cluster() {
  const { subject, query } = route.value;
  const now = tick.value;
  const busiest = now?.nodes ?? NO_NODES;
  const isCut = busiest.length >= TICK_NODES;
  const all = useAnswer<NodeList>(isCut && query['nodes'] === 'all' ? apiUrl('nodes') : '', ALL_MS, restarts.value);
  const nodes = all.data?.nodes ?? busiest;
  const used = nodes.reduce((sum, node) => sum + node.used, 0), slots = nodes.reduce((sum, node) => sum + node.slots, 0);
  const waiting = nodes.reduce((sum, node) => sum + node.waiting, 0), warm = nodes.reduce((sum, node) => sum + node.warm, 0), zygotes = nodes.reduce((sum, node) => sum + node.zygotes, 0);
  const held = nodes.reduce((sum, node) => sum + node.objectBytes, 0);
  // Of a node that never fetched nothing is known.
  const speeds = nodes.map(({ fetchBytesPerS }) => fetchBytesPerS).filter((speed) => speed > 0);
  return (
    <>
      <h1 class="unseen">Cluster</h1>
      <dl class="facts is-wide">
        <div><dt>nodes</dt><dd>{nodes.length}<small>{nodes.filter(({ state }) => state === 'ready').length} ready</small></dd></div>
        <div><dt>slots busy</dt><dd>{count(used)}<small>of {count(slots)}, {percent(used / Math.max(1, slots))}</small></dd></div>
        <div><dt>wait in lines</dt><dd>{count(waiting)}<small>for a node; {count(now?.delayingForCapacity ?? 0)} for any room</small></dd></div>
        <div><dt>warm sandboxes</dt><dd>{count(warm)}</dd></div>
        <div><dt>zygotes</dt><dd>{count(Math.round(zygotes))}</dd></div>
        <div><dt>data held</dt><dd>{formatBytes(held)}</dd></div>
        <div><dt>fetches lately at</dt><dd>{speeds.length === 0 ? '–' : `${formatBytes(Math.round(speeds.reduce((sum, speed) => sum + speed, 0) / speeds.length))}/s`}<small>{speeds.length === 0 ? 'no node has fetched yet' : `mean of ${speeds.length} nodes`}</small></dd></div>
      </dl>
      <section class="panel" aria-labelledby="map">
        <header><h2 id="map">Nodes × slots</h2>
          <ul class="legend"><li><i style={{ '--line-colour': 'var(--slot-busy)' }} />busy</li><li><i style={{ '--line-colour': 'var(--slot-warm)' }} />warm and idle</li><li><i style={{ '--line-colour': 'var(--slot-free)' }} />free</li><li><i style={{ '--line-colour': 'var(--state-delaying)' }} />waiting for this node</li></ul>
        </header>
        {nodes.length === 0 ? <p class="soft">No node is known yet. Start one with: metronome agent</p> : <NodeMap nodes={nodes} selected={subject} version={now?.atMs ?? 0} onSelect={(name) => go(linkTo('cluster', name, query))} />}
        {isCut && (query['nodes'] === 'all' ? <p class="note">All nodes, every {ALL_MS / 1_000} s{(all.data?.leftOut ?? 0) > 0 ? `; ${exact(all.data?.leftOut ?? 0)} beyond the bound` : ''}. <a href={linkWith({ nodes: '' })}>The {TICK_NODES} busiest</a></p> : <p class="note">The {TICK_NODES} busiest nodes; numbers above are theirs. <a href={linkWith({ nodes: 'all' })}>All nodes</a></p>)}
      </section>
      <div class={subject === '' ? '' : 'columns'}>
        <section class="panel" aria-labelledby="nodes">
          <header><h2 id="nodes">Nodes</h2></header>
          <NodeTable label="Nodes" nodes={nodes} selected={subject} isShort={subject !== ''} empty="No node is known yet." />
        </section>
        {subject !== '' && <OneNode key={subject} name={subject} state={nodes.find(({ name }) => name === subject)?.state} />}
      </div>
    </>
  );
}

function OneNode({ name, state }: { readonly name: string; readonly state: string | undefined }) {
  const [turn, setTurn] = useState(0);
  const { data, error } = useAnswer<NodeDetail>(apiUrl(`nodes/${encodeURIComponent(name)}`), REFRESH_MS, `${restarts.value} ${turn}`);
  const [isAsking, setAsking] = useState(false);
  const [said, setSaid] = useState('');
  const present = state ?? data?.state ?? '';
  const drains = present === 'draining';
  const change = async (): Promise<void> => {
    await send('POST', apiUrl(`nodes/${encodeURIComponent(name)}/${drains ? 'undrain' : 'drain'}`));
    setSaid(drains ? `${name} takes work again.` : `${name} drains.`);
    setTurn((before) => before + 1);
  };
  const warm = Object.entries(data?.warmByFunction ?? {}).sort(([a], [b]) => a.localeCompare(b));
  return (
    <section class="panel" aria-labelledby="node">
      <header>
        <h2 id="node">{name}</h2>{present !== '' && <StateBadge state={present} />}
        <button type="button" disabled={data === undefined} onClick={() => setAsking(true)}>{drains ? 'Undrain' : 'Drain'} …</button>
        <a class="button" href={linkTo('cluster')}>close</a>
      </header>
      <p role="status" class="soft">{said}</p>
      {error !== '' && <p class="error" role="alert">{error}</p>}
      {data !== undefined && (
        <>
          <h3>Running <span class="soft">{exact(data.running.length)}</span></h3>
          <InvocationTable label={`Running on ${name}`} list={{ rows: data.running, hasMore: false, error: '', isLoading: false }} linkOf={(row) => linkTo('invocation', row.id)} rows={Math.min(6, Math.max(1, data.running.length))} empty="Nothing runs here." without={['state', 'node']} />
          <h3>Waiting line <span class="soft">{exact(data.line.length)}{data.line.length >= 200 ? ' and more' : ''}</span></h3>
          <InvocationTable label={`Waiting for ${name}`} list={{ rows: data.line, hasMore: false, error: '', isLoading: false }} linkOf={(row) => linkTo('invocation', row.id)} rows={Math.min(6, Math.max(1, data.line.length))} empty="Nobody waits for it." without={['state', 'node']} />
          <div class="pair">
            <div><h3>Warm sandboxes</h3>{warm.length === 0 ? <p class="soft">None.</p> : <table><thead><tr><th scope="col">function</th><th scope="col" class="number">idle</th><th scope="col" class="number">busy</th></tr></thead><tbody>{warm.map(([each, { idle, busy }]) => <tr key={each}><th scope="row">{each}</th><td class="number">{idle}</td><td class="number">{busy}</td></tr>)}</tbody></table>}</div>
            <div>
              <h3>Held</h3>
              <dl class="list"><dt>zygotes</dt><dd>{data.zygoteSets.length === 0 ? '–' : data.zygoteSets.join(', ')}</dd><dt>package sets</dt><dd>{data.packageSets}</dd><dt>objects</dt><dd>{exact(data.objects)}, {formatBytes(data.objectBytes)}</dd></dl>
              <details><summary>Metrics</summary><dl class="list">{Object.entries(data.metrics).map(([metric, value]) => <><dt key={metric}>{spaced(metric)}</dt><dd>{Number(value.toPrecision(4)).toLocaleString('en')}</dd></>)}</dl></details>
            </div>
          </div>
        </>
      )}
      {isAsking && (
        <Confirm title={drains ? `Give ${name} work again?` : `Drain ${name}?`} action={drains ? 'Undrain' : 'Drain'} onConfirm={change} onClose={() => setAsking(false)}>
          <p>{drains ? 'From the next decision on it is a candidate again.' : 'What runs there runs to its end; whoever waits for it is classified again; nothing new is sent to it until you undrain it.'}</p>
        </Confirm>
      )}
    </section>
  );
}
