/** Style and script of the viewer in exported HTML files. Plain ES2020 without any library, because it must run from a file in any browser. */

export const VIEWER_STYLE = `
:root{color-scheme:light dark;--ink:#1c2430;--dim:#5b6675;--line:#d8dee6;--page:#fff;--arriving:#9aa7b5;--classified:#7aa2d6;--delaying:#d99a2b;--dispatched:#2f7d5b;--completed:#2f7d5b;--failed:#b3382c;--cancelled:#7d5ba6;--timedOut:#a64b7d}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--dim:#9aa7b5;--line:#333d49;--page:#161b22;--dispatched:#4fae83;--completed:#4fae83;--failed:#e5766b;--delaying:#e3b04f}}
body{margin:0;font:14px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--page)}
header{padding:16px 20px;border-bottom:1px solid var(--line)}h1{font-size:18px;margin:0 0 4px}h2{font-size:15px;margin:16px 0 6px}p{margin:4px 0;color:var(--dim)}
input{font:inherit;width:26em;max-width:90%;padding:4px 8px;margin-left:6px;color:inherit;background:transparent;border:1px solid var(--line);border-radius:6px}
main{display:grid;grid-template-columns:minmax(320px,3fr) minmax(320px,2fr);gap:20px;padding:12px 20px}@media(max-width:900px){main{grid-template-columns:1fr}}
ul{list-style:none;margin:0;padding:0}li button{display:grid;grid-template-columns:13em 1fr 6em;gap:8px;align-items:center;width:100%;padding:3px 6px;font:inherit;color:inherit;text-align:left;background:none;border:0;border-radius:6px;cursor:pointer}
li button:hover,li button[aria-pressed=true]{background:color-mix(in srgb,var(--classified) 18%,transparent)}button:focus-visible,input:focus-visible{outline:2px solid var(--classified);outline-offset:1px}
.name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}.ms{text-align:right;font-variant-numeric:tabular-nums;color:var(--dim)}.bar{position:relative;height:12px;background:color-mix(in srgb,var(--line) 45%,transparent);border-radius:3px}.bar i{position:absolute;top:0;bottom:0;min-width:2px;border-radius:2px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}th,td{text-align:left;padding:2px 10px 2px 0;border-bottom:1px solid var(--line)}th{color:var(--dim);font-weight:500}.chosen{font-weight:600}.scroll{overflow-x:auto}
`;

export const VIEWER_SCRIPT = String.raw`
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const MOST = 500;
const list = document.getElementById('list'), detail = document.getElementById('detail'), filter = document.getElementById('filter');
let first = Infinity, last = -Infinity;
for (const { stays } of data.invocations) for (const { fromMs, toMs } of stays) { first = Math.min(first, fromMs); last = Math.max(last, toMs ?? fromMs); }
const span = Math.max(1, last - first);
const ms = (value) => value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : String(Math.round(value));
const make = (name, text, props) => Object.assign(document.createElement(name), text === undefined ? {} : { textContent: text }, props);
const endOf = ({ stays }) => stays[stays.length - 1].toMs ?? last;
document.getElementById('summary').textContent = data.invocations.length + ' invocations within ' + ms(span) + ' ms' + (data.missed > 0 ? '; ' + data.missed + ' earlier transitions are not remembered' : '') + '.';
function table(head, rows) {
  const box = make('div', undefined, { className: 'scroll' }), made = make('table'), body = make('tbody'), top = make('tr');
  for (const text of head) top.append(make('th', text, { scope: 'col' }));
  const heading = make('thead'); heading.append(top); made.append(heading, body); box.append(made);
  for (const { cells, chosen } of rows) { const row = make('tr', undefined, chosen ? { className: 'chosen' } : {}); for (const cell of cells) row.append(make('td', cell)); body.append(row); }
  return box;
}
function show(invocation) {
  for (const button of list.querySelectorAll('button')) button.setAttribute('aria-pressed', String(button.dataset.id === invocation.id));
  const begin = invocation.stays[0].fromMs;
  detail.replaceChildren(make('h2', invocation.function + ' ' + invocation.id), make('p', 'From ' + new Date(begin).toISOString() + ', ' + ms(endOf(invocation) - begin) + ' ms.'));
  detail.append(table(['after ms', 'for ms', 'state', 'node', 'reason'], invocation.stays.map((stay) => ({ cells: [ms(stay.fromMs - begin), stay.toMs === undefined ? 'goes on' : ms(stay.toMs - stay.fromMs), stay.state + (stay.delayingFor ? ' for ' + stay.delayingFor : ''), stay.node, stay.reason] }))));
  const decisions = data.decisions[invocation.id] ?? [];
  detail.append(make('h2', decisions.length === 0 ? 'No decisions of it were exported' : 'Decisions'));
  decisions.forEach((decision, index) => {
    const does = String(decision.action ?? '').endsWith('DELAY') ? 'waits for ' + (decision.node || 'any room') : 'is sent to ' + decision.node;
    detail.append(make('p', (index + 1) + '. ' + (decision.policy ?? '') + ': ' + does + ' (' + decision.reason + '), predicted ' + ms(decision.predictedMs ?? 0) + ' ms, safe delay left ' + ms(decision.slackMs ?? 0) + ' ms.'));
    detail.append(table(['node', 'class', 'degree', 'predicted ms', 'spread', 'wait ms', 'room', 'start'], (decision.candidates ?? []).map((candidate) => ({ chosen: candidate.node === decision.node, cells: [candidate.node, String(candidate.locality?.class ?? '').replace('LOCALITY_CLASS_', '').toLowerCase(), Math.round(100 * (candidate.locality?.degree ?? 0)) + ' %', ms(candidate.predictedMs ?? 0), ms(candidate.spreadMs ?? 0), ms(candidate.expectedWaitMs ?? 0), String(candidate.room ?? 0), String(candidate.startState ?? '').replace('START_STATE_', '').toLowerCase()] }))));
  });
}
function draw() {
  const wanted = filter.value.trim().toLowerCase();
  const found = data.invocations.filter((each) => wanted === '' || (each.id + ' ' + each.function + ' ' + each.stays.map((stay) => stay.state + ' ' + stay.node + ' ' + stay.reason).join(' ')).toLowerCase().includes(wanted));
  list.replaceChildren();
  for (const invocation of found.slice(0, MOST)) {
    const button = make('button', undefined, { type: 'button' });
    button.dataset.id = invocation.id;
    const bar = make('span', undefined, { className: 'bar' });
    for (const stay of invocation.stays) {
      const part = make('i');
      part.style.left = 100 * (stay.fromMs - first) / span + '%';
      part.style.width = 100 * ((stay.toMs ?? last) - stay.fromMs) / span + '%';
      part.style.background = 'var(--' + stay.state + ')';
      bar.append(part);
    }
    const end = invocation.stays[invocation.stays.length - 1].state;
    button.setAttribute('aria-label', invocation.function + ' ' + invocation.id + ', ' + end);
    button.append(make('span', invocation.function + ' · ' + invocation.id.slice(-6), { className: 'name', title: invocation.id }), bar, make('span', ms(endOf(invocation) - invocation.stays[0].fromMs) + ' ms', { className: 'ms' }));
    button.addEventListener('click', () => show(invocation));
    const item = make('li'); item.append(button); list.append(item);
  }
  document.getElementById('more').textContent = found.length > MOST ? 'and ' + (found.length - MOST) + ' more: narrow them down above' : found.length === 0 ? 'Nothing fits.' : '';
  const best = found.slice(0, MOST).find((each) => data.decisions[each.id] !== undefined) ?? found[0];
  if (best !== undefined) show(best);
}
filter.addEventListener('input', draw);
draw();
`;
