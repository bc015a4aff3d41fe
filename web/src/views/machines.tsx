/** Machines: each as a chart with live counts; who is in a state; the path of one invocation. */
import { useEffect, useMemo } from 'preact/hooks';
import type { MachineChart } from '../../../src/inspect/page-api.ts';
import { apiUrl, useAnswer } from '../api.ts';
import { readExplanation, reasonText, type Explanation, type Step } from '../explanation.ts';
import { feed } from '../feed.ts';
import { flowRates } from '../flow-rates.ts';
import { guardsOf } from '../guards.ts';
import { useInvocations } from '../invocation-list.ts';
import { restarts, tick, useFrames } from '../live.ts';
import { InvocationTable } from '../parts/invocation-table.tsx';
import { MachineDrawing } from '../parts/machine-drawing.tsx';
import { NodeTable } from '../parts/node-table.tsx';
import { StateBadge } from '../parts/state-badge.tsx';
import { TransitionTable } from '../parts/transition-table.tsx';
import { linkTo, route } from '../route.ts';
import { count, exact, formatMs, ms, perSecond, spaced } from '../words.ts';

const NO_COUNTS: readonly number[] = [];
const FOLLOW_MS = 1_000;
/** Set when the first chart has live numbers: from here on the page can be used. Measured by `bench page`. */
const INTERACTIVE = 'metronome.interactive';

export function Machines() {
  const { subject, query } = route.value;
  const { data: charts, error } = useAnswer<readonly MachineChart[]>(apiUrl('machines'), 0, restarts.value);
  const name = subject === '' ? 'invocation' : subject;
  const chart = charts?.find((each) => each.name === name);
  const live = tick.value;
  if (charts === undefined) return <p class={error === '' ? 'soft' : 'error'} role="status">{error === '' ? 'Asking for the machines …' : error}</p>;
  return (
    <>
      <h1 class="unseen">Machines</h1>
      <nav class="chips" aria-label="Machines">
        {charts.map((each) => {
          const counts = live?.machines[each.name]?.counts ?? NO_COUNTS;
          const inThem = each.states.reduce((sum, { isFinal }, i) => sum + (isFinal ? 0 : (counts[i] ?? 0)), 0);
          return <a key={each.name} href={linkTo('machines', each.name)} {...(each.name === name ? { 'aria-current': 'page' as const } : {})}>{each.name} <b>{count(inThem)}</b></a>;
        })}
      </nav>
      {chart === undefined ? <p class="error" role="alert">{`There is no machine "${name}". Choose one of those above.`}</p> : <OneMachine key={chart.name} chart={chart} state={query['state'] ?? ''} id={query['id'] ?? ''} />}
    </>
  );
}

function OneMachine({ chart, state, id }: { readonly chart: MachineChart; readonly state: string; readonly id: string }) {
  const of = tick.value?.machines[chart.name];
  const isInvocation = chart.name === 'invocation';
  const followed = useAnswer<unknown>(isInvocation && id !== '' ? apiUrl(`invocations/${encodeURIComponent(id)}`) : '', FOLLOW_MS, restarts.value);
  const explanation = useMemo(() => (followed.data === undefined ? undefined : readExplanation(followed.data)), [followed.data]);
  const { path, states } = useMemo(() => pathIn(chart, explanation), [chart, explanation]);
  const isLive = of !== undefined;
  useEffect(() => {
    if (isLive && performance.getEntriesByName(INTERACTIVE).length === 0) performance.mark(INTERACTIVE);
  }, [isLive]);
  const counts = of?.counts ?? NO_COUNTS, flow = of?.flow ?? NO_COUNTS;
  return (
    <>
      <p class="lead">{chart.summary} <span class="soft">Final states count what ended since the start. Lines are as wide as what flows over them.</span></p>
      <section class="panel" aria-label={`Machine ${chart.name}`}>
        <MachineDrawing chart={chart} counts={counts} flow={flow} rates={flowRates.of(chart.name)} selected={state} linkOf={isInvocation || chart.name === 'node' ? (each) => linkTo('machines', chart.name, { state: each, id }) : undefined} path={id === '' || explanation === undefined ? undefined : path} pathStates={states} hasDots={isInvocation} />
        <details>
          <summary>Transitions as a table</summary>
          <div class="scrolls" tabIndex={0} role="group" aria-label={`Transitions of the ${chart.name} machine`}>
            <table>
              <thead><tr><th scope="col">in</th><th scope="col">event</th><th scope="col">if</th><th scope="col">to</th><th scope="col">now</th><th scope="col">since the start</th></tr></thead>
              <tbody>{chart.edges.map(({ from, event, guard, to }, i) => <tr key={i}><th scope="row">{spaced(from)}</th><td class="mono">{event}</td><td>{guard}</td><td>{to === from ? 'stays' : spaced(to)}</td><td>{perSecond(flowRates.of(chart.name)?.[i] ?? 0)}</td><td>{exact(flow[i] ?? 0)}</td></tr>)}</tbody>
            </table>
          </div>
        </details>
      </section>
      {chart.name === 'node' && <Nodes state={state} />}
      {isInvocation && (
        <div class="columns">
          <Members state={state} id={id} />
          {id === '' ? <Latest /> : <Path chart={chart} id={id} explanation={explanation} error={followed.error} state={state} />}
        </div>
      )}
    </>
  );
}

function Members({ state, id }: { readonly state: string; readonly id: string }) {
  const list = useInvocations({ state, function: '', node: '' }, restarts.value);
  const title = state === '' ? 'Invocations' : `In ${spaced(state)}`;
  return (
    <section class="panel" aria-labelledby="members">
      <header><h2 id="members">{title}</h2>{state !== '' && <a class="button" href={linkTo('machines', 'invocation', { id })}>all states</a>}<span class="soft">{list.said}</span>{list.isKept && <button type="button" onClick={() => list.anew()}>to the newest</button>}</header>
      <InvocationTable label={title} list={list} linkOf={(row) => linkTo('machines', 'invocation', { state, id: row.id })} selected={id} without={state === '' ? ['of'] : ['state']} rows={13} empty={state === '' ? 'No invocation has come yet. Try: metronome invoke noop -n 1000' : `Nobody is in ${spaced(state)}.`} />
    </section>
  );
}

/** The nodes in a state: of those that the ticks carry. */
function Nodes({ state }: { readonly state: string }) {
  const nodes = (tick.value?.nodes ?? []).filter((node) => state === '' || node.state === state);
  const title = state === '' ? 'Nodes' : `Nodes that are ${spaced(state)}`;
  return (
    <section class="panel" aria-labelledby="nodes">
      <header><h2 id="nodes">{title}</h2>{state !== '' && <a class="button" href={linkTo('machines', 'node')}>all states</a>}</header>
      <NodeTable label={title} nodes={nodes} empty={state === '' ? 'No node is known yet.' : `No node is ${spaced(state)}.`} />
    </section>
  );
}

/** The newest transitions as they come. */
function Latest() {
  useFrames();
  return (
    <section class="panel" aria-labelledby="latest">
      <header><h2 id="latest">Latest transitions</h2><span class="soft">{exact(feed.seen)} seen{feed.missed > 0 ? `, ${exact(feed.missed)} left out by sampling` : ''}</span></header>
      <TransitionTable label="Latest transitions" length={feed.length} row={(i) => feed.at(i)} rows={13} empty="No transition has come yet." />
    </section>
  );
}

function Path({ chart, id, explanation, error, state }: { readonly chart: MachineChart; readonly id: string; readonly explanation: Explanation | undefined; readonly error: string; readonly state: string }) {
  return (
    <section class="panel" aria-labelledby="path">
      <header><h2 id="path">Its path</h2><a class="button is-main" href={linkTo('invocation', id)}>explain it</a><a class="button" href={linkTo('machines', 'invocation', { state })}>let it go</a></header>
      {error !== '' && <p class="error" role="alert">{error}</p>}
      {explanation !== undefined && (
        <>
          <p><span class="mono">{explanation.id}</span> · {explanation.function} · <StateBadge state={explanation.state} detail={explanation.state === 'delaying' ? explanation.delayingFor : ''} />{explanation.totalMs > 0 && ` after ${formatMs(explanation.totalMs)}`}</p>
          <div class="scrolls steps-box" tabIndex={0} role="group" aria-label="Its steps, scrolls"><ol class="steps">
            {explanation.steps.map((step, i) => (
              <li key={i}>
                <span class="steps-at">+{ms(Math.max(0, step.atMs - explanation.arrivedAtMs))} ms</span>
                <span><StateBadge state={step.to} detail={step.to === 'delaying' ? step.delayingFor : ''} /> <span class="mono soft">{step.event}{bracketed(guardsOf(chart, step))}</span>{step.node !== '' && <> {step.node}</>}<br /><span class="soft">{reasonText(step.reason)}</span></span>
              </li>
            ))}
          </ol></div>
        </>
      )}
    </section>
  );
}

function bracketed(guards: readonly string[]): string {
  return guards.length === 0 ? '' : ` [${guards.join(', ')}]`;
}

/** Which edges an invocation took, with the numbers of its steps, and in which states it was. */
function pathIn(chart: MachineChart, explanation: Explanation | undefined): { readonly path: ReadonlyMap<number, readonly number[]>; readonly states: ReadonlySet<string> } {
  const path = new Map<number, number[]>();
  const states = new Set<string>();
  explanation?.steps.forEach((step, i) => {
    states.add(step.from);
    states.add(step.to);
    const edge = edgeOf(chart, step);
    if (edge >= 0) path.set(edge, [...(path.get(edge) ?? []), i + 1]);
  });
  return { path, states };
}

/** The edge of a step. Where several guards lead from and to the same states on the same event, the first stands for all: the guard is not told. */
function edgeOf({ edges }: MachineChart, step: Step): number {
  return edges.findIndex(({ from, to, event }) => from === step.from && to === step.to && event === step.event);
}
