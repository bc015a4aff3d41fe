/**
 * Who may use the inspector from a browser: only pages that this very door served. A name that an attacker lets point to this machine (DNS
 * rebinding) is refused by the Host header, a request that another site makes a browser send (CSRF) by Origin and Sec-Fetch-Site.
 */
import { isIP } from 'node:net';
import { MetronomeError } from '../core/errors.ts';

/** The headers that decide. */
export interface SiteHeaders {
  readonly host: string | undefined;
  readonly origin: string | undefined;
  readonly fetchSite: string | undefined;
}

/** Throws PERMISSION_DENIED. `names`: host names beside addresses and localhost. */
export function assertOwnSite({ host, origin, fetchSite }: SiteHeaders, changes: boolean, names: readonly string[]): void {
  if (!isOwnName(host ?? '', names)) throw new MetronomeError('PERMISSION_DENIED', `The page is not served under the name ${JSON.stringify(hostName(host ?? ''))}. Use its address, or add the name to inspect.hosts.`, { component: 'gateway' });
  if (!changes) return;
  // Browsers send one of them with every such request; programs send neither.
  const foreign = origin !== undefined ? !isSameHost(origin, host ?? '') : fetchSite !== undefined && fetchSite !== 'same-origin' && fetchSite !== 'none';
  if (foreign) throw new MetronomeError('PERMISSION_DENIED', `Only the inspector's own page may change something from a browser, not ${JSON.stringify(origin ?? fetchSite)}.`, { component: 'gateway' });
}

/** True for an address, localhost, and the names that are given: nobody else can let them point here. */
export function isOwnName(host: string, names: readonly string[]): boolean {
  const name = hostName(host);
  return isIP(name) > 0 || name === 'localhost' || name.endsWith('.localhost') || names.some((each) => each.toLowerCase() === name);
}

/** True if a page of this origin came from this host. */
export function isSameHost(origin: string, host: string): boolean {
  try {
    return new URL(origin).host === host.toLowerCase();
  } catch {
    return false;
  }
}

/** Without port and brackets, in small letters; '' for what is no host. */
export function hostName(host: string): string {
  try {
    return new URL(`http://${host}`).hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  } catch {
    return '';
  }
}
