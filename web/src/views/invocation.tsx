/** Invocation: where its time went, what was predicted, and every decision with all that it rested on. */
import { useMemo, useState } from 'preact/hooks';
import type { MachineChart } from '../../../src/inspect/page-api.ts';
import { apiUrl, useAnswer } from '../api.ts';
import { deviation, readExplanation, reasonText, whyChosen, type Explanation } from '../explanation.ts';
import { guardsOf } from '../guards.ts';
import { useInvocations } from '../invocation-list.ts';
import { restarts, tick } from '../live.ts';
import { CandidateTable } from '../parts/candidate-table.tsx';
import { InvocationTable } from '../parts/invocation-table.tsx';
import { LifeLine } from '../parts/life-line.tsx';
import { StateBadge } from '../parts/state-badge.tsx';
import { go, linkTo, linkWith, route } from '../route.ts';
import { clock, formatMs, lowerFirst, ms, spaced } from '../words.ts';

const ASK_AGAIN_MS = 1_000;
const STATES = ['arriving', 'classified', 'delaying', 'dispatched', 'completed', 'failed', 'cancelled', 'timedOut'] as const;

export function Invocation() {
  const { subject, query } = route.value;
  return (
    <>
      <h1 class="unseen">Invocation</h1>
      {subject === '' ? <Find state={query['state'] ?? ''} name={query['function'] ?? ''} /> : <One id={subject} wanted={query['decision']} />}
    </>
  );
}

/** The list to choose from. */
function Find({ state, name }: { readonly state: string; readonly name: string }) {
  const list = useInvocations({ state, function: name, node: '' }, restarts.value);
  const [id, setId] = useState('');
  return (
    <section class="panel" aria-labelledby="find">
      <header><h2 id="find">Choose an invocation</h2></header>
      <form class="fields" onSubmit={(event) => {
        event.preventDefault();
        if (id.trim() !== '') go(linkTo('invocation', id.trim()));
      }}>
        <label>Id <input value={id} onInput={(event) => setId(event.currentTarget.value)} spellcheck={false} autocomplete="off" /></label>
        <button type="submit">Explain</button>
        <label>State <select value={state} onChange={(event) => go(linkWith({ state: event.currentTarget.value }))}><option value="">all</option>{STATES.map((each) => <option key={each} value={each}>{spaced(each)}</option>)}</select></label>
        <label>Function <input value={name} onChange={(event) => go(linkWith({ function: event.currentTarget.value.trim() }))} spellcheck={false} autocomplete="off" placeholder="all" /></label>
        <span class="soft">{list.said === '' ? '' : `${list.said}, the newest first`}</span>{list.isKept && <button type="button" onClick={() => list.anew()}>to the newest</button>}
      </form>
      <InvocationTable label="Invocations" list={list} linkOf={(row) => linkTo('invocation', row.id)} rows={20} empty="Nothing fits. Try: metronome invoke noop -n 1000" />
    </section>
  );
}

function One({ id, wanted }: { readonly id: string; readonly wanted: string | undefined }) {
  const [isOver, setOver] = useState(false);
  const { data: charts } = useAnswer<readonly MachineChart[]>(apiUrl('machines'), 0, restarts.value);
  const chart = charts?.find(({ name }) => name === 'invocation');
  const { data, error } = useAnswer<unknown>(apiUrl(`invocations/${encodeURIComponent(id)}`), isOver ? 0 : ASK_AGAIN_MS, restarts.value);
  const explanation = useMemo(() => (data === undefined ? undefined : readExplanation(data)), [data]);
  if (explanation !== undefined && (explanation.endedAtMs > 0) !== isOver) queueMicrotask(() => setOver(explanation.endedAtMs > 0));
  if (explanation === undefined) return <p class={error === '' ? 'soft' : 'error'} role={error === '' ? 'status' : 'alert'}>{error === '' ? 'Asking …' : error} <a href={linkTo('invocation')}>Choose another one</a></p>;
  const { decisions } = explanation;
  // Without a wish the first decision that weighed nodes: the one that people ask about.
  const first = Math.max(0, decisions.findIndex(({ candidates }) => candidates.length > 0));
  const asked = wanted === undefined ? first : Number(wanted) - 1;
  const at = Number.isInteger(asked) ? Math.max(0, Math.min(decisions.length - 1, asked)) : first;
  const look = (index: number): void => go(linkWith({ decision: String(index + 1) }), true);
  return (
    <>
      <section class="panel" aria-labelledby="who">
        <header>
          <h2 id="who" class="mono">{explanation.id}</h2><StateBadge state={explanation.state} detail={explanation.state === 'delaying' ? explanation.delayingFor : ''} />
          <a class="button" href={linkTo('machines', 'invocation', { id })}>its path</a><a class="button" href={linkTo('invocation')}>others</a>
        </header>
        <Facts explanation={explanation} />
        {explanation.error !== '' && <p class="error">{explanation.error}</p>}
        <Life explanation={explanation} at={at} onDecision={look} />
      </section>
      <section class="panel" aria-labelledby="decisions">
        <header>
          <h2 id="decisions">{decisions.length === 0 ? 'No decision is remembered' : `Decision ${at + 1} of ${decisions.length}`}</h2>
          {decisions.length > 1 && (
            <span class="scrub">
              <button type="button" disabled={at === 0} onClick={() => look(at - 1)} aria-label="Decision before">‹</button>
              <input type="range" min={1} max={decisions.length} value={at + 1} aria-label="Decision" onInput={(event) => look(Number(event.currentTarget.value) - 1)} />
              <button type="button" disabled={at === decisions.length - 1} onClick={() => look(at + 1)} aria-label="Decision after">›</button>
            </span>
          )}
        </header>
        {decisions[at] !== undefined && (
          <>
            <p class="prose" aria-live="polite">{whyChosen(decisions[at], explanation.arrivedAtMs)}</p>
            <CandidateTable decision={decisions[at]} />
          </>
        )}
      </section>
      <section class="panel" aria-labelledby="steps">
        <header><h2 id="steps">What happened</h2></header>
        <div class="scrolls" tabIndex={0} role="group" aria-label="Steps, scrolls">
          <table>
            <thead><tr><th scope="col" class="number">after</th><th scope="col">from</th><th scope="col">to</th><th scope="col">event</th><th scope="col">if</th><th scope="col">node</th><th scope="col">why</th></tr></thead>
            <tbody>{explanation.steps.map((step, i) => <tr key={i}><td class="number">{ms(Math.max(0, step.atMs - explanation.arrivedAtMs))} ms</td><td>{spaced(step.from)}</td><td><StateBadge state={step.to} detail={step.to === 'delaying' ? step.delayingFor : ''} /></td><td class="mono">{step.event}</td><td class="mono">{chart === undefined ? '' : guardsOf(chart, step).join(', ')}</td><td>{step.node}</td><td>{reasonText(step.reason)}</td></tr>)}</tbody>
          </table>
        </div>
      </section>
    </>
  );
}

function Life({ explanation, at, onDecision }: { readonly explanation: Explanation; readonly at: number; readonly onDecision: (index: number) => void }) {
  // One that lives grows with the daemon's clock.
  return <LifeLine explanation={explanation} at={at} onDecision={onDecision} nowMs={explanation.endedAtMs > 0 ? 0 : (tick.value?.atMs ?? 0)} />;
}

function Facts({ explanation }: { readonly explanation: Explanation }) {
  const { phases, predictedMs, totalMs, slaMs } = explanation;
  const measuredMs = explanation.endedAtMs > 0 ? phases.fetched + phases.initialised + phases.ran : 0;
  const facts: [string, string, string?][] = [
    ['function', explanation.step === '' ? explanation.function : `${explanation.function} (${explanation.step})`],
    ['policy', explanation.policy],
    ['node', explanation.node === '' ? '–' : explanation.node, explanation.startState === '' ? '' : `${explanation.startState} start`],
    ['arrived', clock(explanation.arrivedAtMs), explanation.attempt > 1 ? `attempt ${explanation.attempt}` : ''],
    ['latency', totalMs > 0 ? formatMs(totalMs) : 'not over', slaMs > 0 ? `target ${formatMs(slaMs)}` : ''],
    ['predicted', predictedMs > 0 ? formatMs(predictedMs) : '–', measuredMs > 0 && predictedMs > 0 ? `measured ${formatMs(measuredMs)}, ${deviation(predictedMs, measuredMs)}` : ''],
    ['waited', formatMs(phases.delayed + phases.queued), phases.delayed > 0 ? 'for a better node' : phases.queued > 0 ? 'for room' : ''],
    ['last', spaced(explanation.reason), lowerFirst(reasonText(explanation.reason))],
  ];
  return <dl class="facts">{facts.map(([name, value, more = '']) => <div key={name}><dt>{name}</dt><dd>{value}{more !== '' && <small>{more}</small>}</dd></div>)}</dl>;
}
