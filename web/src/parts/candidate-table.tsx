/** What a decision saw: one row per node, the best first, with why it was taken or not. */
import { whyNot, type Candidate, type Decision } from '../explanation.ts';
import { linkTo } from '../route.ts';
import { exact, formatBytes, formatMs, ms, percent } from '../words.ts';

export function CandidateTable({ decision }: { readonly decision: Decision }) {
  const { candidates, candidatesInAll } = decision;
  if (candidates.length === 0) return <p class="soft">No node was considered: {decision.node === '' ? 'it waits for any room' : `it was sent to ${decision.node} by what it had waited for`}.</p>;
  const longestMs = Math.max(...candidates.map(({ expectedWaitMs, predictedMs, p95Ms }) => expectedWaitMs + Math.max(predictedMs, p95Ms)));
  return (
    <div class="scrolls" tabIndex={0} role="group" aria-label="Candidates, scrolls">
      <table class="candidates">
        <thead>
          <tr><th scope="col">node</th><th scope="col">class</th><th scope="col">degree <span class="soft">data + infrastructure</span></th><th scope="col">would start</th><th scope="col" class="number">T ± spread</th><th scope="col" class="number">P95</th><th scope="col" class="number">wait</th><th scope="col">wait + T</th><th scope="col" class="number">room</th><th scope="col" class="number">load</th><th scope="col">why</th></tr>
        </thead>
        <tbody>{candidates.map((each) => <Row key={each.node} candidate={each} decision={decision} longestMs={longestMs} />)}</tbody>
      </table>
      {candidatesInAll > candidates.length && <p class="note">{exact(candidatesInAll - candidates.length)} more were considered and stand below these.</p>}
    </div>
  );
}

function Row({ candidate, decision, longestMs }: { readonly candidate: Candidate; readonly decision: Decision; readonly longestMs: number }) {
  const isChosen = candidate.node === decision.node;
  const share = (part: number): string => `${((100 * part) / Math.max(1, longestMs)).toFixed(2)}%`;
  return (
    <tr class={isChosen ? 'is-chosen' : ''}>
      <th scope="row"><span class="mark" aria-hidden="true">{isChosen ? '→' : ''}</span><a href={linkTo('cluster', candidate.node)}>{candidate.node}</a></th>
      <td><span class={candidate.isLocal ? 'class-local' : 'class-fallback'}>{candidate.isLocal ? 'local' : 'fallback'}</span></td>
      <td><span class="degree" aria-hidden="true"><i class="is-data" style={{ width: `${candidate.data * 100}%` }} /><i class="is-infra" style={{ width: `${candidate.infrastructure * 100}%` }} /></span>{percent(candidate.degree)} <span class="soft">{percent(candidate.data)} + {percent(candidate.infrastructure)}</span></td>
      <td>{candidate.start === '' ? '–' : candidate.start}{candidate.start === 'zygote' && candidate.zygoteDistance > 0 && <span class="soft"> at {percent(candidate.zygoteDistance)}</span>}{candidate.missingBytes > 0 && <span class="soft">, lacks {formatBytes(candidate.missingBytes)}</span>}</td>
      <td class="number">{ms(candidate.predictedMs)} <span class="soft">± {ms(candidate.spreadMs)}</span></td>
      <td class="number">{ms(candidate.p95Ms)}</td>
      <td class="number">{ms(candidate.expectedWaitMs)}</td>
      <td>
        <span class="ends" aria-hidden="true"><i class="is-wait" style={{ width: share(candidate.expectedWaitMs) }} /><i class="is-run" style={{ width: share(candidate.predictedMs) }} />{candidate.p95Ms > candidate.predictedMs && <i class="is-tail" style={{ width: share(candidate.p95Ms - candidate.predictedMs) }} />}</span>
        <span class="unseen">{formatMs(candidate.expectedWaitMs + candidate.predictedMs)}</span>
      </td>
      <td class="number">{candidate.room}</td>
      <td class="number">{percent(candidate.load)}</td>
      <td class="why">{whyNot(candidate, decision)}</td>
    </tr>
  );
}
