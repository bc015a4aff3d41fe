/** The life of one invocation on one axis of time: its states, its phases, what was predicted and what happened, and the slack. */
import { PHASES, type Decision, type Explanation } from '../explanation.ts';
import { formatMs, ms, spaced } from '../words.ts';
import { stateColour } from './state-badge.tsx';

const WIDTH = 1_000;
const LEFT = 92;
const RIGHT = 16;
const LANE = 26;
const SLACK_HEIGHT = 110;

interface Bar {
  readonly name: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly colour: string;
}

export interface LifeLineProps {
  readonly explanation: Explanation;
  /** Index of the decision that is looked at. */
  readonly at: number;
  readonly onDecision: (index: number) => void;
  readonly nowMs: number;
}

export function LifeLine({ explanation, at, onDecision, nowMs }: LifeLineProps) {
  const { arrivedAtMs, endedAtMs, slaMs, decisions } = explanation;
  const endMs = endedAtMs > 0 ? endedAtMs : Math.max(nowMs, explanation.steps.at(-1)?.atMs ?? 0);
  const lengthMs = Math.max(1, endMs - arrivedAtMs, slaMs > 0 && slaMs < 2.5 * (endMs - arrivedAtMs) ? slaMs : 0);
  const x = (atMs: number): number => LEFT + ((WIDTH - LEFT - RIGHT) * Math.max(0, Math.min(lengthMs, atMs - arrivedAtMs))) / lengthMs;
  const states = stateBars(explanation, endMs);
  const phases = phaseBars(explanation);
  const ran = predictionOf(explanation);
  const decision = decisions[at];
  const bottom = 4 * LANE + 34;
  const slack = slackLine(explanation, endMs);
  const height = bottom + SLACK_HEIGHT + 26;
  const most = Math.max(1, ...slack.map(({ slackMs }) => slackMs)), least = Math.min(0, ...slack.map(({ slackMs }) => slackMs));
  const y = (slackMs: number): number => bottom + 8 + ((SLACK_HEIGHT - 8) * (most - slackMs)) / (most - least);
  return (
    <div class="life scrolls" tabIndex={0} role="group" aria-label="Timeline, scrolls">
      <svg viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={describe(explanation, states)}>
        {ticks(lengthMs).map((tickMs) => (
          <g key={tickMs} class="life-tick">
            <line x1={x(arrivedAtMs + tickMs)} x2={x(arrivedAtMs + tickMs)} y1="16" y2={height - 14} />
            <text x={x(arrivedAtMs + tickMs)} y="10">{formatTick(tickMs)}</text>
          </g>
        ))}
        <Lane y={20} label="state" bars={states} x={x} />
        <Lane y={20 + LANE} label="phase" bars={phases} x={x} />
        <g>
          <text x={LEFT - 8} y={20 + 2 * LANE + 14} class="life-label">predicted</text>
          <text x={LEFT - 8} y={20 + 3 * LANE + 14} class="life-label">measured</text>
          {ran !== undefined && ran.predictedMs > 0 && (
            <>
              <rect x={x(ran.fromMs)} y={20 + 2 * LANE + 3} width={Math.max(2, x(ran.fromMs + ran.predictedMs) - x(ran.fromMs))} height={LANE - 10} rx="3" class="life-predicted" />
              {ran.spreadMs > 0 && <line x1={x(ran.fromMs + Math.max(0, ran.predictedMs - ran.spreadMs))} x2={x(ran.fromMs + ran.predictedMs + ran.spreadMs)} y1={20 + 2 * LANE + 11} y2={20 + 2 * LANE + 11} class="life-spread" />}
              {ran.p95Ms > 0 && <line x1={x(ran.fromMs + ran.p95Ms)} x2={x(ran.fromMs + ran.p95Ms)} y1={20 + 2 * LANE} y2={20 + 2 * LANE + 22} class="life-p95"><title>{`95 of 100 stay below ${formatMs(ran.p95Ms)}`}</title></line>}
              <Value from={x(ran.fromMs)} to={x(ran.fromMs + Math.max(ran.predictedMs + ran.spreadMs, ran.p95Ms))} inside={x(ran.fromMs + ran.predictedMs - ran.spreadMs)} y={20 + 2 * LANE + 15} text={formatMs(ran.predictedMs)} />
            </>
          )}
          {ran !== undefined && ran.measuredMs > 0 && (
            <>
              <rect x={x(ran.fromMs)} y={20 + 3 * LANE + 3} width={Math.max(2, x(ran.fromMs + ran.measuredMs) - x(ran.fromMs))} height={LANE - 10} rx="3" class="life-measured" />
              <Value from={x(ran.fromMs)} to={x(ran.fromMs + ran.measuredMs)} inside={x(ran.fromMs + ran.measuredMs)} y={20 + 3 * LANE + 15} text={formatMs(ran.measuredMs)} isOn />
            </>
          )}
        </g>
        <g>
          <text x={LEFT - 8} y={y(most) + 10} class="life-label">slack</text>
          <text x={LEFT - 8} y={y(most) + 24} class="life-label is-soft">{formatMs(most)}</text>
          <line x1={LEFT} x2={WIDTH - RIGHT} y1={y(0)} y2={y(0)} class="life-zero" />
          {slack.length > 1 && <path d={`M${slack.map(({ atMs, slackMs }) => `${x(atMs).toFixed(1)} ${y(slackMs).toFixed(1)}`).join('L')}`} class="life-slack" />}
        </g>
        {slaMs > 0 && slaMs <= lengthMs && <g class="life-sla"><line x1={x(arrivedAtMs + slaMs)} x2={x(arrivedAtMs + slaMs)} y1="16" y2={height - 14} /><text x={x(arrivedAtMs + slaMs) - 4} y={height - 2}>target {formatMs(slaMs)}</text></g>}
        {decision !== undefined && <line x1={x(decision.atMs)} x2={x(decision.atMs)} y1="14" y2={height - 14} class="life-cursor" />}
        {decisions.map((each, i) => (
          <circle key={i} cx={x(each.atMs)} cy={y(slackAt(each))} r={i === at ? 6 : 4.5} class={`life-decision${i === at ? ' is-selected' : ''}`} onClick={() => onDecision(i)}>
            <title>{`decision ${i + 1}: ${formatMs(each.slackMs)} of slack`}</title>
          </circle>
        ))}
      </svg>
      <ul class="legend">{phases.map(({ name, colour, fromMs, toMs }) => <li key={name}><i style={{ '--line-colour': `var(--${colour})` }} />{name} <b>{formatMs(toMs - fromMs)}</b></li>)}</ul>
    </div>
  );
}

/** A number on its bar where there is room, otherwise beside it. */
function Value({ from, to, inside, y, text, isOn = false }: { readonly from: number; readonly to: number; readonly inside: number; readonly y: number; readonly text: string; readonly isOn?: boolean }) {
  const fits = inside - from > text.length * 7 + 12;
  const isBefore = !fits && to + 7 + text.length * 7 > WIDTH;
  return <text x={fits ? from + 7 : isBefore ? from - 7 : to + 7} y={y} class={`life-value${fits && isOn ? ' is-on' : ''}`} style={{ 'text-anchor': isBefore ? 'end' : 'start' }}>{text}</text>;
}

function Lane({ y, label, bars, x }: { readonly y: number; readonly label: string; readonly bars: readonly Bar[]; readonly x: (atMs: number) => number }) {
  return (
    <g>
      <text x={LEFT - 8} y={y + 14} class="life-label">{label}</text>
      {bars.map(({ name, fromMs, toMs, colour }, i) => {
        const from = x(fromMs), width = Math.max(1.5, x(toMs) - from);
        return (
          <g key={i}>
            <rect x={from} y={y} width={width} height={LANE - 6} rx="3" style={{ fill: `var(--${colour})` }}><title>{`${name}: ${formatMs(toMs - fromMs)}`}</title></rect>
            {width > name.length * 6.6 + 10 && <text x={from + width / 2} y={y + 14} class="life-name">{name}</text>}
          </g>
        );
      })}
    </g>
  );
}

function stateBars({ arrivedAtMs, steps, state, delayingFor }: Explanation, endMs: number): Bar[] {
  const changes = steps.filter(({ from, to, delayingFor: waits }, i) => from !== to || (waits !== '' && waits !== steps[i - 1]?.delayingFor));
  const bars: Bar[] = [];
  let name = changes[0]?.from ?? state, detail = changes.length === 0 ? delayingFor : '', fromMs = arrivedAtMs;
  for (const step of changes) {
    bars.push({ name: detail === '' ? spaced(name) : `${spaced(name)} (${detail})`, fromMs, toMs: step.atMs, colour: stateColour(name) });
    name = step.to;
    detail = step.to === 'delaying' ? step.delayingFor : '';
    fromMs = step.atMs;
  }
  if (endMs > fromMs) bars.push({ name: detail === '' ? spaced(name) : `${spaced(name)} (${detail})`, fromMs, toMs: endMs, colour: stateColour(name) });
  return bars;
}

/** One after the other from the arrival: of several attempts the sums are known. */
function phaseBars({ arrivedAtMs, phases }: Explanation): Bar[] {
  let fromMs = arrivedAtMs;
  return PHASES.filter((phase) => phases[phase] > 0).map((phase) => {
    const bar = { name: phase, fromMs, toMs: fromMs + phases[phase], colour: `phase-${phase}` };
    fromMs = bar.toMs;
    return bar;
  });
}

/** The execution as it was predicted when it was sent, and as it was measured. */
function predictionOf(explanation: Explanation): { readonly fromMs: number; readonly predictedMs: number; readonly spreadMs: number; readonly p95Ms: number; readonly measuredMs: number } | undefined {
  const { steps, phases, node, decisions, predictedMs } = explanation;
  const sent = steps.findLast(({ from, to }) => to === 'dispatched' && from !== 'dispatched');
  if (sent === undefined) return undefined;
  const candidate = decisions.findLast(({ candidates }) => candidates.length > 0)?.candidates.find((each) => each.node === node);
  return { fromMs: sent.atMs + phases.dispatched, predictedMs: predictedMs > 0 ? predictedMs : (candidate?.predictedMs ?? 0), spreadMs: candidate?.spreadMs ?? 0, p95Ms: candidate?.p95Ms ?? 0, measuredMs: phases.fetched + phases.initialised + phases.ran };
}

const slackAt = ({ slackMs }: Decision): number => Math.max(-1e6, Math.min(1e6, slackMs));

/** Slack falls by a millisecond per millisecond while it waits; at a decision it is known anew; at the end it is what was left of the target. */
function slackLine(explanation: Explanation, endMs: number): { readonly atMs: number; readonly slackMs: number }[] {
  const { decisions, steps, slaMs, endedAtMs, totalMs } = explanation;
  const points: { atMs: number; slackMs: number }[] = [];
  const sent = steps.findLast(({ from, to }) => to === 'dispatched' && from !== 'dispatched');
  decisions.forEach((decision, i) => {
    points.push({ atMs: decision.atMs, slackMs: slackAt(decision) });
    const untilMs = decisions[i + 1]?.atMs ?? (sent === undefined ? endMs : Math.max(sent.atMs, decision.atMs));
    if (untilMs > decision.atMs) points.push({ atMs: untilMs, slackMs: slackAt(decision) - (untilMs - decision.atMs) });
  });
  if (endedAtMs > 0 && slaMs > 0 && points.length > 0) points.push({ atMs: endedAtMs, slackMs: slaMs - totalMs });
  return points;
}

function ticks(lengthMs: number): number[] {
  const rough = lengthMs / 7;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  return Array.from({ length: Math.floor(lengthMs / step) + 1 }, (_, i) => i * step);
}

function formatTick(tickMs: number): string {
  return tickMs === 0 ? '0' : tickMs >= 1_000 ? `${Number((tickMs / 1_000).toFixed(2))} s` : `${ms(tickMs).replace(/\.0+$/, '')} ms`;
}

function describe({ function: name, totalMs, slaMs }: Explanation, states: readonly Bar[]): string {
  return `Life of an invocation of ${name}: ${states.map(({ name: state, fromMs, toMs }) => `${state} for ${formatMs(toMs - fromMs)}`).join(', ')}${totalMs > 0 ? `; ${formatMs(totalMs)} in all` : ''}${slaMs > 0 ? `, target ${formatMs(slaMs)}` : ''}`;
}
