/** Where the reader is, kept in the hash so that every view and selection has an address that can be sent to somebody: "#/machines/invocation?state=delaying". */
import { signal } from '@preact/signals';

export const VIEWS = ['machines', 'invocation', 'cluster', 'traffic', 'simulation'] as const;

export type View = (typeof VIEWS)[number];

/** A place in the page. */
export interface Route {
  readonly view: View;
  /** The second segment: name of a machine, id of an invocation, name of a node; '' for none. */
  readonly subject: string;
  readonly query: Readonly<Record<string, string>>;
}

export const route = signal<Route>(parseRoute(location.hash));

addEventListener('hashchange', () => {
  route.value = parseRoute(location.hash);
});

/** What is not understood leads to the first view. */
export function parseRoute(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?');
  const [view = '', subject = ''] = path.split('/');
  const known = VIEWS.find((each) => each === view);
  return known === undefined ? { view: 'machines', subject: '', query: {} } : { view: known, subject: decoded(subject), query: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a place. Empty values are left out. */
export function linkTo(view: View, subject = '', query: Readonly<Record<string, string>> = {}): string {
  const params = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ''));
  return `#/${view}${subject === '' ? '' : `/${encodeURIComponent(subject)}`}${params.size === 0 ? '' : `?${params}`}`;
}

/** This place with some of its query changed. */
export function linkWith(changes: Readonly<Record<string, string>>): string {
  const { view, subject, query } = route.value;
  return linkTo(view, subject, { ...query, ...changes });
}

/** Goes to a place. With `replace` the back button does not stop here: for sliders and the like. */
export function go(link: string, replace = false): void {
  if (!replace) {
    location.hash = link;
    return;
  }
  history.replaceState(null, '', link);
  route.value = parseRoute(link);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a lone "%": somebody typed it
  }
}
