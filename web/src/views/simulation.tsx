/** Simulation: runs a scenario under several policies, or takes a recording of the daemon or a run from a file, and plays them side by side on one clock. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { MachineChart, RecordingInfo, RecordingList, ScenarioInfo, SimulationFrame, SimulationRequest, SimulationRun, TransitionRow } from '../../../src/inspect/page-api.ts';
import { apiUrl, send, useAnswer } from '../api.ts';
import { NodeMap } from '../parts/node-map.tsx';
import { stateColour } from '../parts/state-badge.tsx';
import { TransitionTable } from '../parts/transition-table.tsx';
import { readRuns } from '../recorded-runs.ts';
import { go, linkWith, route } from '../route.ts';
import { count, formatBytes, formatMs, spaced } from '../words.ts';

const MAX_POLICIES = 4;
/** No policy, in the address. */
const NONE = '-';
/** Of a scenario; the daemon takes no longer ones. */
const MAX_SCENARIO_CHARACTERS = 200_000;
const MAX_FILE_BYTES = 64 * 1024 * 1024;
const SPEEDS = [0.25, 1, 4, 16, 64] as const;
/** Transitions of the frames before the present one that are listed. */
const LISTED = 60;

export function Simulation() {
  const { query } = route.value;
  const { data: scenarios, error: scenariosError } = useAnswer<readonly ScenarioInfo[]>(apiUrl('scenarios'));
  const { data: shelf, error: shelfError } = useAnswer<RecordingList>(apiUrl('recordings'));
  const { data: policies } = useAnswer<{ readonly policies?: readonly { readonly name?: string; readonly description?: string }[] }>(apiUrl('policies'));
  const names = (policies?.policies ?? []).map(({ name = '' }) => name);
  const [runs, setRuns] = useState<readonly SimulationRun[]>([]);
  const [source, setSource] = useState('');
  const [uploaded, setUploaded] = useState<{ readonly name: string; readonly text: string } | undefined>();
  const [error, setError] = useState('');
  const running = useRef<AbortController | undefined>(undefined);
  const [isRunning, setRunning] = useState(false);
  useEffect(() => () => running.current?.abort(), []);
  const wanted = (query['policies'] ?? 'metronome,round-robin').split(',').filter((name) => name !== NONE && (names.length === 0 || names.includes(name)));
  const scenario = query['scenario'] ?? scenarios?.[0]?.name ?? '';
  const recording = uploaded === undefined ? (query['recording'] ?? '') : '';
  const recorded = shelf?.recordings.find(({ name }) => name === recording);
  const seed = Number(query['seed'] ?? 1);
  const about = scenarios?.find(({ name }) => name === scenario);
  const choose = (name: string, isOn: boolean): void => {
    const next = isOn ? [...wanted, name].slice(-MAX_POLICIES) : wanted.filter((each) => each !== name);
    go(linkWith({ policies: next.length === 0 ? NONE : next.join(',') }), true);
  };
  const run = async (): Promise<void> => {
    const aborting = new AbortController();
    running.current = aborting;
    setRunning(true);
    setError('');
    const body: SimulationRequest = recording !== '' ? { recording, policies: wanted, seed } : {
      ...(uploaded === undefined ? { scenario } : { file: uploaded.text }), policies: wanted, seed,
      ...(query['nodes'] === undefined ? {} : { nodes: Number(query['nodes']) }), ...(query['rate'] === undefined ? {} : { rate: Number(query['rate']) }),
    };
    try {
      const answer = await send<unknown>('POST', apiUrl('simulations'), body, aborting.signal);
      setRuns(readRuns(answer));
      setSource(recording !== '' ? `${recording}, what-if with seed ${seed}` : `${uploaded?.name ?? scenario}, seed ${seed}`);
    } catch (thrown) {
      if (!aborting.signal.aborted) setError(thrown instanceof Error ? thrown.message : String(thrown));
    } finally {
      setRunning(false);
    }
  };
  const told = (): string => {
    const under = wanted.join(', ');
    if (isRunning && recording === '') return `Simulating under ${under} …`;
    if (isRunning) return wanted.length === 0 ? 'Replaying …' : `Replaying, and simulating under ${under} …`;
    if (uploaded !== undefined) return `Scenario of ${uploaded.name}.`;
    if (recording === '') return about?.description ?? '';
    return `What was, and beside it what its traffic would have seen, in simulation.${recorded?.isRunning === true ? ' It is being written: it ends where it is read.' : ''}`;
  };
  const load = async (file: File | undefined): Promise<void> => {
    if (file === undefined) return;
    setError('');
    try {
      if (file.size > MAX_FILE_BYTES) throw new Error(`${file.name} has ${file.size} bytes; at most ${MAX_FILE_BYTES} can be loaded.`);
      const content = await file.text();
      const recorded = recordedIn(content);
      if (recorded === undefined) {
        if (content.length > MAX_SCENARIO_CHARACTERS) throw new Error(`${file.name} is no recorded run, and too long for a scenario: ${content.length} characters, at most ${MAX_SCENARIO_CHARACTERS}.`);
        setUploaded({ name: file.name, text: content });
        return;
      }
      setRuns(readRuns(recorded));
      setSource(file.name);
    } catch (thrown) {
      setError(thrown instanceof Error ? thrown.message : String(thrown));
    }
  };
  return (
    <>
      <h1 class="unseen">Simulation</h1>
      <section class="panel" aria-labelledby="set-up">
        <header><h2 id="set-up">Scenario</h2></header>
        <form class="fields" onSubmit={(event) => {
          event.preventDefault();
          void run();
        }}>
          <label>Scenario or recording <select value={uploaded !== undefined ? '\n' : recording === '' ? `s ${scenario}` : `r ${recording}`} onChange={(event) => {
            const { value } = event.currentTarget;
            if (value === '\n') return;
            setUploaded(undefined);
            go(linkWith(value.startsWith('r ') ? { recording: value.slice(2) } : { scenario: value.slice(2), recording: '' }), true);
          }}>
            {uploaded !== undefined && <option value={'\n'}>{uploaded.name}</option>}
            <optgroup label="Scenarios">{(scenarios ?? []).map(({ name }) => <option key={name} value={`s ${name}`}>{name}</option>)}</optgroup>
            {shelf !== undefined && shelf.recordings.length > 0 && <optgroup label="Recordings of this daemon">{shelf.recordings.map((each) => <option key={each.name} value={`r ${each.name}`}>{toldRecording(each)}</option>)}</optgroup>}
            {recording !== '' && shelf !== undefined && recorded === undefined && <option value={`r ${recording}`}>{recording} (not there)</option>}
          </select></label>
          <label>Seed <input type="number" min={0} max={2 ** 31 - 1} class="is-short" value={seed} onChange={(event) => go(linkWith({ seed: event.currentTarget.value }), true)} /></label>
          <label>Nodes <input type="number" min={1} max={256} class="is-short" disabled={recording !== ''} value={query['nodes'] ?? ''} placeholder={recording === '' ? String(about?.nodes ?? '') : ''} onChange={(event) => go(linkWith({ nodes: event.currentTarget.value }), true)} /></label>
          <label>Rate × <input type="number" min={0.01} max={100} step="any" class="is-short" disabled={recording !== ''} value={query['rate'] ?? ''} placeholder="1" onChange={(event) => go(linkWith({ rate: event.currentTarget.value }), true)} /></label>
          <label>Scenario (YAML) or recorded run (JSON) <input type="file" accept=".yaml,.yml,.json,application/json" onChange={(event) => void load(event.currentTarget.files?.[0])} /></label>
          <fieldset><legend>{recording === '' ? 'Policies' : 'What if: policies'}, at most {MAX_POLICIES}</legend>{names.map((name) => <label key={name} class="check"><input type="checkbox" checked={wanted.includes(name)} onChange={(event) => choose(name, event.currentTarget.checked)} />{name}</label>)}</fieldset>
          {isRunning ? <button type="button" onClick={() => running.current?.abort()}>Stop</button> : <button type="submit" class="is-main" disabled={recording === '' && (wanted.length === 0 || (scenario === '' && uploaded === undefined))}>{recording === '' ? 'Simulate' : 'Load the recording'}</button>}
        </form>
        <p class="soft" role="status">{told()}</p>
        {shelf !== undefined && shelf.recordings.length === 0 && <p class="soft">This daemon has no recordings. <code>metronome up --record DIR</code> makes them.</p>}
        {shelf !== undefined && shelf.leftOut > 0 && <p class="soft">{shelf.leftOut} older recordings are not listed.</p>}
        {recording !== '' && <p class="soft">One seed shows how it goes. For figures with intervals: <code>metronome what-if</code> (docs/guide/replaying.md).</p>}
        {(error !== '' || scenariosError !== '' || shelfError !== '') && <p class="error" role="alert">{error !== '' ? error : scenariosError !== '' ? scenariosError : shelfError}</p>}
      </section>
      {runs.length > 0 && <Player runs={runs} source={source} />}
    </>
  );
}

/** A recording in the list. */
function toldRecording({ startedAtMs, bytes, isRunning }: RecordingInfo): string {
  return `${new Date(startedAtMs).toISOString().slice(0, 19).replace('T', ' ')} UTC, ${formatBytes(bytes)}${isRunning ? ', being written' : ''}`;
}

/** What a film is called. */
function titleOf({ kind, policy }: SimulationRun): string {
  return kind === 'recorded' ? `recorded (${policy})` : kind === 'whatIf' ? `${policy}, SIMULATION` : policy;
}

/** The runs in a file; undefined when it is something else, which only a scenario can be. The daemon says what is wrong with that. */
function recordedIn(content: string): unknown {
  try {
    const given: unknown = JSON.parse(content);
    return Array.isArray(given) || (typeof given === 'object' && given !== null && 'frames' in given) ? given : undefined;
  } catch {
    return undefined; // YAML, most likely
  }
}

/** One clock for all films. */
function Player({ runs, source }: { readonly runs: readonly SimulationRun[]; readonly source: string }) {
  const { data: charts } = useAnswer<readonly MachineChart[]>(apiUrl('machines'));
  const states = charts?.find(({ name }) => name === 'invocation')?.states.map(({ name }) => name) ?? [];
  const lengthMs = Math.max(...runs.map(({ frames }) => frames.at(-1)?.simulatedMs ?? 0));
  const stepMs = lengthMs / Math.max(1, Math.max(...runs.map(({ frames }) => frames.length)) - 1);
  const [atMs, setAt] = useState(0);
  const [isPlaying, setPlaying] = useState(false);
  const [speed, setSpeed] = useState<number>(4);
  useEffect(() => {
    setAt(0);
    setPlaying(!matchMedia('(prefers-reduced-motion: reduce)').matches);
  }, [runs]);
  useEffect(() => {
    if (!isPlaying) return undefined;
    let due = 0, before = performance.now();
    const turn = (now: number): void => {
      const passedMs = now - before;
      before = now;
      setAt((at) => Math.min(lengthMs, at + passedMs * speed));
      due = requestAnimationFrame(turn);
    };
    due = requestAnimationFrame(turn);
    return () => cancelAnimationFrame(due);
  }, [isPlaying, speed, lengthMs]);
  useEffect(() => {
    if (atMs >= lengthMs) setPlaying(false);
  }, [atMs >= lengthMs]);
  const step = (by: number): void => {
    setPlaying(false);
    setAt((at) => Math.max(0, Math.min(lengthMs, (Math.round(at / stepMs) + by) * stepMs)));
  };
  return (
    <>
      <section class="panel player" aria-label="Player">
        <div class="buttons">
          <button type="button" onClick={() => step(-1)} aria-label="One step back">‹</button>
          <button type="button" class="is-main" onClick={() => {
            if (atMs >= lengthMs) setAt(0);
            setPlaying(!isPlaying);
          }}>{isPlaying ? 'Pause' : 'Play'}</button>
          <button type="button" onClick={() => step(1)} aria-label="One step on">›</button>
        </div>
        <input type="range" min={0} max={lengthMs} step={stepMs} value={atMs} aria-label={runs.some(({ kind }) => kind === 'recorded') ? 'Time of the recording' : 'Simulated time'} aria-valuetext={formatMs(atMs)} onInput={(event) => {
          setPlaying(false);
          setAt(Number(event.currentTarget.value));
        }} />
        <output class="player-time">{(atMs / 1_000).toFixed(1)} of {(lengthMs / 1_000).toFixed(1)} s</output>
        <label class="field">speed <select value={speed} onChange={(event) => setSpeed(Number(event.currentTarget.value))}>{SPEEDS.map((each) => <option key={each} value={each}>{each}×</option>)}</select></label>
        <span class="soft">{source}</span>
      </section>
      <div class="runs" style={{ '--runs': runs.length }}>{runs.map((run, i) => <Film key={`${run.policy} ${i}`} run={run} atMs={atMs} lengthMs={lengthMs} states={states} />)}</div>
      <Comparison runs={runs} />
    </>
  );
}

function Film({ run, atMs, lengthMs, states }: { readonly run: SimulationRun; readonly atMs: number; readonly lengthMs: number; readonly states: readonly string[] }) {
  const { frames } = run;
  const index = frameAt(frames, atMs);
  const frame = frames[index];
  const listed: TransitionRow[] = [];
  for (let i = index; i >= 0 && listed.length < LISTED; i--) listed.push(...(frames[i]?.transitions.toReversed() ?? []));
  return (
    <section class="panel" aria-label={run.kind === 'recorded' ? `Recorded, under ${run.policy}` : `Run under ${titleOf(run)}`}>
      <header><h2>{titleOf(run)}</h2></header>
      <ul class="tallies">{states.map((state, i) => <li key={state} style={{ '--badge': `var(--${stateColour(state)})` }}><b>{count(frame?.counts[i] ?? 0)}</b>{spaced(state)}</li>)}</ul>
      <Delays frames={frames} states={states} index={index} lengthMs={lengthMs} />
      {frame !== undefined && <NodeMap nodes={frame.nodes} version={index} cellPx={10} />}
      <TransitionTable label={`Transitions: ${titleOf(run)}`} length={Math.min(LISTED, listed.length)} row={(i) => listed[i]} rows={7} isSimulated empty="Nothing has happened yet." />
      {(run.notes ?? []).map((note) => <p class="soft" key={note}>{note}</p>)}
    </section>
  );
}

/** How many wait and how many run, over the whole film, with the present moment marked. */
function Delays({ frames, states, index, lengthMs }: { readonly frames: readonly SimulationFrame[]; readonly states: readonly string[]; readonly index: number; readonly lengthMs: number }) {
  const shown = ['delaying', 'dispatched'].map((state) => ({ state, at: states.indexOf(state) })).filter(({ at }) => at >= 0);
  const most = Math.max(1, ...shown.flatMap(({ at }) => frames.map(({ counts }) => counts[at] ?? 0)));
  const now = ((frames[index]?.simulatedMs ?? 0) / Math.max(1, lengthMs)) * 400;
  return (
    <svg class="delays" viewBox="0 0 400 64" preserveAspectRatio="none" role="img" aria-label={`Over the whole run: ${shown.map(({ state, at }) => `${state}, at most ${Math.max(...frames.map(({ counts }) => counts[at] ?? 0))}`).join('; ')}`}>
      {shown.map(({ state, at }) => <path key={state} d={`M${frames.map(({ simulatedMs, counts }) => `${((simulatedMs / Math.max(1, lengthMs)) * 400).toFixed(1)} ${(62 - ((counts[at] ?? 0) / most) * 58).toFixed(1)}`).join('L')}`} style={{ stroke: `var(--${stateColour(state)})` }} vector-effect="non-scaling-stroke" />)}
      <line x1={now} x2={now} y1="0" y2="64" vector-effect="non-scaling-stroke" />
    </svg>
  );
}

function Comparison({ runs }: { readonly runs: readonly SimulationRun[] }) {
  const names = [...new Set(runs.flatMap(({ summary }) => Object.keys(summary)))];
  return (
    <section class="panel" aria-labelledby="comparison">
      <header><h2 id="comparison">Figures of the whole runs</h2></header>
      <div class="scrolls" tabIndex={0} role="group" aria-label="Figures, scrolls">
        <table>
          <thead><tr><th scope="col">figure</th>{runs.map((run, i) => <th scope="col" class="number" key={i}>{titleOf(run)}</th>)}</tr></thead>
          <tbody>{names.map((name) => <tr key={name}><th scope="row">{spaced(name)}</th>{runs.map(({ summary }, i) => <td class="number" key={i}>{summary[name] === undefined ? '–' : Number(summary[name].toPrecision(4)).toLocaleString('en')}</td>)}</tr>)}</tbody>
        </table>
      </div>
    </section>
  );
}

/** Index of the last frame that is not after `atMs`. */
function frameAt(frames: readonly SimulationFrame[], atMs: number): number {
  let low = 0, high = frames.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((frames[middle]?.simulatedMs ?? 0) <= atMs) low = middle;
    else high = middle - 1;
  }
  return low;
}
