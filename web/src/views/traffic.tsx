/** Traffic: rates, latencies, locality, what waiting cost and saved, the model, and a second policy in the shadow of the first. */
import { useState } from 'preact/hooks';
import { apiUrl, send, useAnswer } from '../api.ts';
import { distribution, percentileMs } from '../latencies.ts';
import { hello, restarts, useFrames } from '../live.ts';
import { Confirm } from '../parts/confirm.tsx';
import { LineChart } from '../parts/line-chart.tsx';
import { readModel, type ModelStatus } from '../model-status.ts';
import { go, linkWith, route } from '../route.ts';
import { seconds } from '../seconds.ts';
import { WINDOW_S, together, traffic, type GroupTotals } from '../traffic-groups.ts';
import { count, exact, formatMs, ms, percent, perSecond } from '../words.ts';

const MODEL_MS = 3_000;
/** Lines of the distribution: beyond so many nobody tells them apart. */
const MAX_LINES = 5;
const LINE_COLOURS = ['series-1', 'series-2', 'series-3', 'series-4', 'series-5'] as const;
const msTick = (value: number): string => (value >= 1_000 ? `${Number((value / 1_000).toFixed(1))} s` : `${Number(value.toPrecision(3))} ms`);
const plain = (value: number): string => count(Number(value.toPrecision(3)));
const percentTick = (value: number): string => `${Number(value.toPrecision(3))} %`;

export function Traffic() {
  useFrames();
  const { query } = route.value;
  const isLately = query['window'] !== 'all';
  const groups = traffic.all(isLately);
  const all = together(groups);
  const x = seconds.column('atS');
  const { version } = seconds;
  const line = (label: string, name: Parameters<typeof seconds.column>[0], colour: string, isDashed = false) => ({ label, colour, values: seconds.column(name), isDashed });
  return (
    <>
      <h1 class="unseen">Traffic</h1>
      <dl class="facts is-wide" aria-label={isLately ? `Over the last ${WINDOW_S} seconds` : 'Since the page was opened'}>
        <div><dt>ended</dt><dd>{exact(all.sums.count)}<small>{all.sums.failed > 0 ? `${exact(all.sums.failed)} failed` : 'none failed'}</small></dd></div>
        <div><dt>latency P50</dt><dd>{ms(percentileMs(all.histogram, 0.5))} ms<small>P99 {ms(percentileMs(all.histogram, 0.99))} ms</small></dd></div>
        <div><dt>missed target</dt><dd>{percent(all.sums.slaMissed / all.sums.count)}<small>{all.leastSlackMs === Infinity ? '' : `least slack ${formatSigned(all.leastSlackMs)}`}</small></dd></div>
        <div><dt>ran locally</dt><dd>{percent(all.sums.local / all.sums.count)}<small>{percent(all.sums.warm / all.sums.count)} warm</small></dd></div>
        <div><dt>waited</dt><dd>{formatMs(all.sums.delayedMs)}<small>{all.sums.count > 0 ? `${formatMs(all.sums.delayedMs / all.sums.count)} each` : ''}</small></dd></div>
        <div><dt>waiting saved</dt><dd class={all.sums.savedMs - all.sums.delayedMs < 0 ? 'is-late' : 'is-good'}>{formatSigned(all.sums.savedMs)}<small>net {formatSigned(all.sums.savedMs - all.sums.delayedMs)}</small></dd></div>
        <div><dt>model is off by</dt><dd>{percent(all.sums.error / all.sums.count)}<small>mean of |predicted − measured| ÷ measured</small></dd></div>
      </dl>
      <div class="chips" role="group" aria-label="Window of the numbers">
        <button type="button" aria-pressed={isLately} onClick={() => go(linkWith({ window: '' }))}>last minute</button>
        <button type="button" aria-pressed={!isLately} onClick={() => go(linkWith({ window: 'all' }))}>since the page was opened</button>
      </div>
      <div class="charts">
        <LineChart title="Invocations per second" x={x} version={version} format={plain} lines={[line('arrived', 'submitted', 'series-1', true), line('ended', 'ended', 'series-2'), line('failed', 'failed', 'state-failed')]} />
        <LineChart title="Latency" x={x} version={version} format={msTick} lines={[line('P50', 'p50', 'series-2'), line('P95', 'p95', 'series-3'), line('P99', 'p99', 'series-4')]} />
        <LineChart title="Who waits" x={x} version={version} format={plain} lines={[line('for a better node', 'forLocality', 'state-delaying'), line('for room', 'forCapacity', 'state-failed'), line('alive', 'live', 'series-1', true)]} />
        <LineChart title="Waiting: cost and gain" x={x} version={version} format={msTick} lines={[line('waited', 'delayedMs', 'state-delaying'), line('saved by it', 'savedMs', 'state-completed')]} note="Per second of time, all invocations together. Saved: predicted time of the best node with room at the first decision, less what it took where it ran." />
        <LineChart title="Locality" x={x} version={version} format={percentTick} yMax={100} lines={[line('on a local node', 'local', 'series-2'), line('warm start', 'warm', 'series-3')]} />
        <LineChart title="Model error" x={x} version={version} format={percentTick} lines={[line('|predicted − measured| ÷ measured', 'error', 'series-4')]} />
      </div>
      <Distribution groups={groups} wanted={query['function'] ?? ''} version={version} />
      <Groups groups={groups} isLately={isLately} />
      <Shadow version={version} />
      <Model />
    </>
  );
}

const nameOf = ({ function: name }: GroupTotals): string => (name === '' ? 'all others' : name);

function Distribution({ groups, wanted, version }: { readonly groups: readonly GroupTotals[]; readonly wanted: string; readonly version: number }) {
  const functions = [...new Set(groups.map(nameOf))].sort();
  const fitting = wanted === '' ? byPolicy(groups) : groups.filter((group) => nameOf(group) === wanted);
  const shown = fitting.slice(0, MAX_LINES);
  const curves = shown.map(({ histogram }) => distribution(histogram));
  const x = [...new Set(curves.flatMap((points) => points.map((point) => point.ms)))].sort((a, b) => a - b);
  const lines = shown.map((group, i) => {
    const at = new Map(curves[i]?.map((point) => [point.ms, point.share * 100]));
    let last: number | null = null;
    const end = curves[i]?.at(-1)?.ms ?? 0;
    return { label: wanted === '' ? (group.policy === '' ? 'several' : group.policy) : `${nameOf(group)}, ${group.policy}`, colour: LINE_COLOURS[i] ?? 'series-1', values: x.map((value) => (last = at.get(value) ?? (value > end ? 100 : last))) };
  });
  return (
    <section class="panel" aria-labelledby="cdf">
      <header><h2 id="cdf">Latency distribution</h2><label class="field">of <select value={wanted} onChange={(event) => go(linkWith({ function: event.currentTarget.value }))}><option value="">all functions, by policy</option>{functions.map((each) => <option key={each} value={each}>{each}</option>)}</select></label>{fitting.length > MAX_LINES && <span class="soft">the {MAX_LINES} busiest</span>}</header>
      <LineChart title="Share of invocations that took no longer" x={x} version={version} xScale="ms" yMax={100} format={percentTick} lines={lines} height={190} empty="Nothing has ended yet." />
    </section>
  );
}

function byPolicy(groups: readonly GroupTotals[]): GroupTotals[] {
  return [...new Set(groups.map(({ policy }) => policy))].map((policy) => ({ ...together(groups.filter((group) => group.policy === policy)), policy }));
}

function Groups({ groups, isLately }: { readonly groups: readonly GroupTotals[]; readonly isLately: boolean }) {
  return (
    <section class="panel" aria-labelledby="groups">
      <header><h2 id="groups">By function and policy</h2></header>
      <div class="scrolls" tabIndex={0} role="group" aria-label="By function and policy, scrolls">
        <table>
          <thead><tr><th scope="col">function</th><th scope="col">policy</th>{['ended', isLately ? 'per s' : '', 'P50 ms', 'P95 ms', 'P99 ms', 'missed', 'least slack', 'local', 'warm', 'waited each', 'saved each', 'model off by'].filter((head) => head !== '').map((head) => <th scope="col" class="number" key={head}>{head}</th>)}</tr></thead>
          <tbody>
            {groups.length === 0 && <tr><td colSpan={13} class="soft">Nothing has ended yet.</td></tr>}
            {groups.map((group) => {
              const { sums, histogram } = group;
              return (
                <tr key={`${group.function} ${group.policy}`}>
                  <th scope="row"><a href={linkWith({ function: nameOf(group) })}>{nameOf(group)}</a></th><td>{group.policy === '' ? 'several' : group.policy}</td><td class="number">{exact(sums.count)}</td>{isLately && <td class="number">{perSecond(sums.count / WINDOW_S).replace('/s', '')}</td>}
                  <td class="number">{ms(percentileMs(histogram, 0.5))}</td><td class="number">{ms(percentileMs(histogram, 0.95))}</td><td class="number">{ms(percentileMs(histogram, 0.99))}</td>
                  <td class={`number${sums.slaMissed > 0 ? ' is-late' : ''}`}>{percent(sums.slaMissed / sums.count)}</td><td class="number">{formatSigned(group.leastSlackMs)}</td><td class="number">{percent(sums.local / sums.count)}</td><td class="number">{percent(sums.warm / sums.count)}</td>
                  <td class="number">{formatMs(sums.delayedMs / sums.count)}</td><td class="number">{formatSigned(sums.savedMs / sums.count)}</td><td class="number">{percent(sums.error / sums.count)}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

interface Policies {
  readonly policies?: readonly { readonly name?: string; readonly description?: string }[];
  readonly active?: string;
}

function Shadow({ version }: { readonly version: number }) {
  const { data, error } = useAnswer<Policies>(apiUrl('policies'), 0, `${restarts.value} ${hello.value?.policy ?? ''}`);
  const [problem, setProblem] = useState('');
  const [asked, setAsked] = useState('');
  const names = (data?.policies ?? []).map(({ name = '' }) => name);
  const active = hello.value?.policy ?? '', shadow = hello.value?.shadowPolicy ?? '';
  const agreed = seconds.latest('agreed');
  const change = async (policy: string): Promise<void> => {
    setProblem('');
    try {
      await send('PUT', apiUrl('shadow'), { policy });
    } catch (thrown) {
      setProblem(thrown instanceof Error ? thrown.message : String(thrown));
    }
  };
  const x = seconds.column('atS');
  return (
    <section class="panel" aria-labelledby="shadow">
      <header>
        <h2 id="shadow">Two policies side by side</h2>
        <label class="field">decides <select value={active} onChange={(event) => {
          setAsked(event.currentTarget.value);
          event.currentTarget.value = active; // until it is confirmed and the daemon says so
        }}>{names.length === 0 && <option value={active}>{active}</option>}{names.map((name) => <option key={name} value={name}>{name}</option>)}</select></label>
        <label class="field">in its shadow <select value={shadow} onChange={(event) => void change(event.currentTarget.value)}><option value="">nobody</option>{names.filter((name) => name !== active).map((name) => <option key={name} value={name}>{name}</option>)}</select></label>
      </header>
      {(problem !== '' || error !== '') && <p class="error" role="alert">{problem === '' ? error : problem}</p>}
      {shadow === '' ? <p class="soft">The shadow policy decides at every decision too and dispatches nothing. Choose one to see how often the two agree, and which of them expects to end sooner.</p> : (
        <div class="charts">
          <LineChart title={`Both choose the same${agreed === null ? '' : `: ${percentTick(agreed)}`}`} x={x} version={version} format={percentTick} yMax={100} lines={[{ label: 'same action, same node', colour: 'series-1', values: seconds.column('agreed') }]} />
          <LineChart title="Expected completion of their choices, mean" x={x} version={version} format={msTick} lines={[{ label: active, colour: 'series-2', values: seconds.column('activeMs') }, { label: shadow, colour: 'series-4', values: seconds.column('shadowMs'), isDashed: true }]} note="Expected wait + predicted time, as the model sees both. What the shadow chose never ran." />
        </div>
      )}
      {asked !== '' && (
        <Confirm title={`Let ${asked} decide?`} action="Change the policy" onConfirm={() => send('PUT', apiUrl('policy'), { policy: asked })} onClose={() => setAsked('')}>
          <p>{data?.policies?.find(({ name }) => name === asked)?.description ?? ''} It decides from the next decision on, for all functions that do not name a policy of their own.</p>
        </Confirm>
      )}
    </section>
  );
}

function Model() {
  const { data, error } = useAnswer<unknown>(apiUrl('model'), MODEL_MS, restarts.value);
  if (error !== '' && data === undefined) return <section class="panel" aria-label="Model"><p class="error">{error}</p></section>;
  const model: ModelStatus = readModel(data);
  return (
    <section class="panel" aria-labelledby="model">
      <header><h2 id="model">Model</h2><span class="soft">{model.predictor}{model.state === '' ? '' : `, ${model.state}`}</span></header>
      <dl class="facts">
        <div><dt>version</dt><dd>{model.version === 0 ? 'none yet' : model.version}<small>{model.trainer}</small></dd></div>
        <div><dt>learned from</dt><dd>{exact(model.observations)}<small>keeps {count(model.windowSize)} of {count(model.windowRoom)}</small></dd></div>
        <div><dt>trees</dt><dd>{exact(model.trees)}<small>{count(model.treeNodes)} nodes</small></dd></div>
        <div><dt>answers in</dt><dd>{ms(model.answerP50Ms)} ms<small>P99 {ms(model.answerP99Ms)} ms</small></dd></div>
        <div><dt>changes noticed</dt><dd>{exact(model.driftEvents)}<small>of functions; {exact(model.nodeDriftEvents)} of nodes</small></dd></div>
      </dl>
      <div class="scrolls" tabIndex={0} role="group" aria-label="Accuracy by function, scrolls">
        <table>
          <thead><tr><th scope="col">function</th><th scope="col" class="number">observations</th><th scope="col" class="number">median error</th><th scope="col" class="number">P95 of errors</th><th scope="col" class="number">forest alone</th><th scope="col" class="number">within P95</th><th scope="col" class="number">within P99</th><th scope="col" class="number">changes</th></tr></thead>
          <tbody>
            {model.functions.length === 0 && <tr><td colSpan={8} class="soft">It has seen no function yet.</td></tr>}
            {model.functions.map((each) => <tr key={each.name}><th scope="row">{each.name}</th><td class="number">{exact(each.observations)}</td><td class="number">{each.medianError === 0 ? '–' : percent(each.medianError)}</td><td class="number">{each.p95Error === 0 ? '–' : percent(each.p95Error)}</td><td class="number">{each.forestMedianError === 0 ? '–' : percent(each.forestMedianError)}</td><td class="number">{each.coverageP95 === 0 ? '–' : percent(each.coverageP95)}</td><td class="number">{each.coverageP99 === 0 ? '–' : percent(each.coverageP99)}</td><td class="number">{each.driftEvents}</td></tr>)}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function formatSigned(valueMs: number): string {
  if (!Number.isFinite(valueMs)) return '–';
  return `${valueMs < 0 ? '−' : ''}${formatMs(Math.abs(valueMs))}`;
}
