/**
 * What an emulated cluster is called on this machine. Everything that it makes has a name that follows from its id, and the id
 * follows from its network: two clusters cannot meet in a name or an address, and whoever knows the id knows all there is to remove.
 */

/** Private ranges of which clusters take /24 networks, most wanted first. */
const RANGES = ['10.77', '172.27', '192.168'] as const;
const LETTERS = 'abc';

/** Most nodes of one emulated cluster. */
export const MAX_NODES = 64;
const FIRST_NODE = 10;

/** All ids there are, in the order in which they are tried. */
export function allIds(): string[] {
  return RANGES.flatMap((_range, r) => Array.from({ length: 256 }, (_, octet) => `mt${LETTERS[r] ?? ''}${octet}`));
}

/** True for what {@link allIds} gives. */
export function isId(text: string): boolean {
  const [, octet] = /^mt[abc](0|[1-9]\d{0,2})$/.exec(text) ?? [];
  return octet !== undefined && Number(octet) <= 255;
}

/** The first three numbers of the cluster's /24 network. */
export function networkOf(id: string): string {
  return `${RANGES[LETTERS.indexOf(id.charAt(2))] ?? ''}.${id.slice(3)}`;
}

/** Address of the bridge: the scheduler's, seen from the nodes. */
export function bridgeAddress(id: string): string {
  return `${networkOf(id)}.1`;
}

/** Address of node `n`, from 1. */
export function nodeAddress(id: string, n: number): string {
  return `${networkOf(id)}.${FIRST_NODE + n}`;
}

export const bridgeName = (id: string): string => `${id}br`;
/** The end of a node's cable at the bridge; the other end is eth0 inside. */
export const cableName = (id: string, n: number): string => `${id}v${n}`;
export const namespaceName = (id: string, n: number): string => `${id}n${n}`;
export const groupName = (id: string): string => `metronome-${id}`;
