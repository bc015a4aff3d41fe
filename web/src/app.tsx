/** The frame of the page: where the reader is, how the daemon is, and the view. */
import { useEffect, useRef } from 'preact/hooks';
import { connection, hello, restarts, tick } from './live.ts';
import { VIEWS, linkTo, route, type View } from './route.ts';
import { theme, toggleTheme } from './theme.ts';
import { Cluster } from './views/cluster.tsx';
import { Invocation } from './views/invocation.tsx';
import { Machines } from './views/machines.tsx';
import { Simulation } from './views/simulation.tsx';
import { Traffic } from './views/traffic.tsx';
import { count } from './words.ts';

const TITLES: Readonly<Record<View, string>> = { machines: 'Machines', invocation: 'Invocation', cluster: 'Cluster', traffic: 'Traffic', simulation: 'Simulation' };

export function App() {
  const { view, subject } = route.value;
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = `${TITLES[view]}${subject === '' ? '' : ` ${subject}`} · Metronome`;
  }, [view, subject]);
  useEffect(() => {
    // Whoever changes the view with the keyboard goes on reading there.
    if (!isFirst.current) main.current?.focus({ preventScroll: true });
    isFirst.current = false;
    scrollTo(0, 0);
  }, [view]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault(); // the hash is the route
        main.current?.focus();
      }}>Skip to the view</a>
      <header class="top">
        <a class="brand" href={linkTo('machines')}><Mark />Metronome</a>
        <nav aria-label="Views">{VIEWS.map((each) => <a key={each} href={linkTo(each)} {...(each === view ? { 'aria-current': 'page' as const } : {})}>{TITLES[each]}</a>)}</nav>
        <Status />
        <button type="button" class="theme" onClick={toggleTheme} aria-label={theme() === 'dark' ? 'Use the light theme' : 'Use the dark theme'}><span aria-hidden="true">{theme() === 'dark' ? '☀' : '☾'}</span></button>
      </header>
      <main id="main" ref={main} tabIndex={-1} aria-label={TITLES[view]}>
        {view === 'machines' && <Machines />}
        {view === 'invocation' && <Invocation />}
        {view === 'cluster' && <Cluster />}
        {view === 'traffic' && <Traffic />}
        {view === 'simulation' && <Simulation />}
      </main>
    </>
  );
}

function Status() {
  const about = hello.value, now = tick.value, state = connection.value;
  const said = state === 'live' ? 'live' : state === 'lost' ? 'connection lost, trying again' : 'connecting';
  return (
    <div class="status">
      {now !== undefined && <span class="status-counts"><b>{count(now.live)}</b> alive<span class="status-more">, <b>{count(now.delayingForLocality)}</b> wait for a better node, <b>{count(now.delayingForCapacity)}</b> for room</span></span>}
      {about !== undefined && <span class="pill">{about.policy}{about.shadowPolicy !== '' && <span class="soft"> · shadow {about.shadowPolicy}</span>}</span>}
      {about?.simulated === true && <span class="pill is-warning">simulated</span>}
      <span role="status" class={`connection is-${state}`} title={about === undefined ? '' : `Metronome ${about.version}, started ${new Date(about.startedAtMs).toLocaleString()}`}><i aria-hidden="true" />{said}{restarts.value > 0 && state === 'live' && <span class="unseen">, started anew: all numbers begin again</span>}</span>
    </div>
  );
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="20" height="20" aria-hidden="true">
      <path d="M11 4h10l5 24H6z" fill="none" stroke="var(--accent)" stroke-width="2.5" stroke-linejoin="round" />
      <path d="M16 24 24 7" stroke="var(--state-delaying)" stroke-width="2.5" stroke-linecap="round" />
      <circle cx="20.4" cy="14.6" r="2.6" fill="var(--state-delaying)" />
    </svg>
  );
}
