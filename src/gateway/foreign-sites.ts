/**
 * What a browser may do at the HTTP door outside the inspector (own-site.ts): nothing for pages of other sites, unless they are named. Programs send
 * neither Origin nor Sec-Fetch-Site and are not concerned, whatever name they use for the door; but a door on loopback is only known
 * under addresses, localhost and the names that are given, for under any other name it is a page's DNS rebinding that asks.
 */
import { isIP } from 'node:net';
import { MetronomeError } from '../core/errors.ts';
import { hostName, isOwnName, isSameHost, type SiteHeaders } from './own-site.ts';

/** Who may come from where. */
export interface SiteRules {
  /** Address that the door listens on. */
  readonly listensOn: string;
  /** Host names beside addresses and localhost. */
  readonly names: readonly string[];
  /** Origins whose pages may use the door, for example "https://app.example". */
  readonly origins: readonly string[];
}

/** Headers that pages of the named origins may send and read. */
const REQUEST_HEADERS = 'content-type, idempotency-key, traceparent, x-metronome-inputs, x-metronome-sla, x-metronome-timeout, x-metronome-locality-key, x-metronome-policy, x-metronome-object-name';
const RESPONSE_HEADERS = 'location, retry-after, server-timing, x-metronome-invocation-id, x-metronome-node, x-metronome-reason, x-metronome-attempt, x-metronome-locality, x-metronome-outputs, x-metronome-outputs-count';
/** How long a browser may remember the answer to a preflight, s. */
const PREFLIGHT_S = 600;

/** Throws PERMISSION_DENIED for what a page of another site made a browser send. `changes`: the method is not GET, HEAD or OPTIONS. */
export function assertNoForeignSite({ host = '', origin, fetchSite }: SiteHeaders, changes: boolean, { listensOn, names, origins }: SiteRules): void {
  if (origin !== undefined && origins.includes(origin)) return;
  if (isLoopback(listensOn) && host !== '' && !isOwnName(host, names)) {
    throw new MetronomeError('PERMISSION_DENIED', `The HTTP door listens on ${listensOn} and is not known as ${JSON.stringify(hostName(host))}. Use its address or localhost, or add the name to inspect.hosts.`, { component: 'gateway' });
  }
  if (!changes) return;
  const isForeign = origin !== undefined ? !(isSameHost(origin, host) && isOwnName(host, names)) : fetchSite !== undefined && fetchSite !== 'same-origin' && fetchSite !== 'none';
  if (isForeign) throw new MetronomeError('PERMISSION_DENIED', `Pages of ${JSON.stringify(origin ?? fetchSite)} may not use this door. Add their origin to scheduler.origins if they may.`, { component: 'gateway' });
}

/** Headers (CORS) that let a page of a named origin read the answer; undefined: it may not. */
export function crossOriginHeaders(origin: string | undefined, { origins }: SiteRules, isPreflight: boolean): Readonly<Record<string, string>> | undefined {
  if (origin === undefined || !origins.includes(origin)) return undefined;
  return {
    'access-control-allow-origin': origin, vary: 'Origin', 'access-control-expose-headers': RESPONSE_HEADERS,
    ...(isPreflight ? { 'access-control-allow-methods': 'GET, POST, DELETE', 'access-control-allow-headers': REQUEST_HEADERS, 'access-control-max-age': String(PREFLIGHT_S) } : {}),
  };
}

function isLoopback(host: string): boolean {
  const name = host.toLowerCase();
  return name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'));
}
