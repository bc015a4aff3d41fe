/**
 * A network namespace per node, cabled to a bridge. Both ends of a cable are shaped: eth0 inside for what the node sends, the end at
 * the bridge for what it receives. The scheduler stays outside, at the address of the bridge, over which all nodes reach it.
 */
import { readdirSync, statSync } from 'node:fs';
import { MetronomeError } from '../../../core/errors.ts';
import { bridgeAddress, bridgeName, cableName, namespaceName, networkOf, nodeAddress } from './names.ts';
import { run, runNow } from './programs.ts';

/** How cables are shaped. */
export interface LinkShape {
  /** 0: as fast as it goes. */
  readonly bitsPerS: number;
  /** Delay in the kernel, one way, ms; 0: none. */
  readonly netemMs: number;
}

const NAMESPACES = '/run/netns';
/** What may pass at once, as time on the link: short, but several of the large packets that the kernel makes of many. */
const BURST_MS = 2;
const LEAST_BURST_BYTES = 32 * 1024;
/** Longest time in the queue before packets are dropped: TCP then finds the rate. */
const QUEUE_MS = 50;
const NETEM_PACKETS = 50_000;

/** True if the addresses and names of an id are free on this machine. Blocking. */
export function isFree(id: string, routes: readonly string[], links: readonly string[]): boolean {
  if (routes.some((route) => overlaps(route, networkOf(id)))) return false;
  return ![...links, ...namespaces()].some((name) => name.startsWith(`${id}br`) || name.startsWith(`${id}v`) || name.startsWith(`${id}n`));
}

/** Networks that this machine has routes to or addresses in, and the names of its links. Blocking. */
export function networksInUse(): { readonly routes: string[]; readonly links: string[] } {
  const routes = runNow('ip', ['-4', '-o', 'route', 'show', 'table', 'all']);
  const links = runNow('ip', ['-o', 'link', 'show']);
  const problem = routes.problem || links.problem;
  if (problem !== '') throw new MetronomeError('UNAVAILABLE', `The networks of this machine cannot be listed: ${problem}`);
  return {
    // "10.0.0.0/8 via …", "local 127.0.0.1 dev lo table local …", "default via …"
    routes: routes.out.split('\n').flatMap((line) => /(?:^|\s)(\d+\.\d+\.\d+\.\d+(?:\/\d+)?)/.exec(line.replace(/\s(?:via|src|dev)\s.*$/, ''))?.[1] ?? []),
    links: links.out.split('\n').flatMap((line) => /^\d+:\s+([^:@\s]+)/.exec(line)?.[1] ?? []),
  };
}

/** Makes bridge, namespaces and cables. When it fails, {@link removeNetwork} takes away what came that far. */
export async function makeNetwork(id: string, nodes: number, shape: LinkShape): Promise<void> {
  const bridge = bridgeName(id);
  const numbers = Array.from({ length: nodes }, (_, i) => i + 1);
  await run(id, 'ip', ['-batch', '-'], [
    `link add ${bridge} type bridge`,
    `addr add ${bridgeAddress(id)}/24 dev ${bridge}`,
    `link set ${bridge} up`,
    ...numbers.flatMap((n) => [
      `netns add ${namespaceName(id, n)}`,
      `link add ${cableName(id, n)} type veth peer name eth0 netns ${namespaceName(id, n)}`,
      `link set ${cableName(id, n)} master ${bridge} up`,
    ]),
    '',
  ].join('\n'));
  const ingress = shapeOf({ ...shape, netemMs: 0 });
  if (ingress.length > 0) await run(id, 'tc', ['-batch', '-'], numbers.map((n) => ingress.map((rule) => `qdisc add dev ${cableName(id, n)} ${rule}\n`).join('')).join(''));
  const egress = shapeOf(shape);
  for (const n of numbers) {
    const namespace = namespaceName(id, n);
    await run(id, 'ip', ['-n', namespace, '-batch', '-'], `link set lo up\naddr add ${nodeAddress(id, n)}/24 dev eth0\nlink set eth0 up\n`);
    if (egress.length > 0) await run(id, 'tc', ['-n', namespace, '-batch', '-'], egress.map((rule) => `qdisc add dev eth0 ${rule}\n`).join(''));
  }
}

/** Removes all that {@link makeNetwork} makes, as far as it is there. Blocking, so that nothing comes in between. Says what stayed. */
export function removeNetwork(id: string, nodes: number): string[] {
  const numbers = Array.from({ length: nodes }, (_, i) => i + 1);
  const problems: string[] = [];
  const remove = (args: readonly string[]): void => {
    const { ok, problem } = runNow('ip', args);
    if (!ok && !/Cannot find device|No such file/i.test(problem)) problems.push(problem);
  };
  const { links } = networksInUse();
  const names = new Set(namespaces());
  for (const n of numbers) {
    // The cable first: with the namespace it would go only when the kernel comes round to it.
    if (links.includes(cableName(id, n))) remove(['link', 'del', cableName(id, n)]);
    if (names.has(namespaceName(id, n))) remove(['netns', 'del', namespaceName(id, n)]);
  }
  if (links.includes(bridgeName(id))) remove(['link', 'del', bridgeName(id)]);
  return problems;
}

/** What begins a command so that it runs in a node's namespace. Not "ip netns exec": that hides the control groups. */
export function enter(id: string, n: number): string[] {
  return ['nsenter', `--net=${NAMESPACES}/${namespaceName(id, n)}`];
}

/** "net:[4026532275]" of a namespace, as processes show theirs; undefined if it is not there. */
export function namespaceKey(id: string, n: number): string | undefined {
  try {
    return `net:[${statSync(`${NAMESPACES}/${namespaceName(id, n)}`).ino}]`;
  } catch {
    return undefined;
  }
}

/** The rules of one end of a cable, in the words of tc. */
function shapeOf({ bitsPerS, netemMs }: LinkShape): string[] {
  const netem = `netem delay ${netemMs}ms limit ${NETEM_PACKETS}`;
  if (bitsPerS === 0) return netemMs > 0 ? [`root handle 1: ${netem}`] : [];
  const burst = Math.max(LEAST_BURST_BYTES, Math.round((bitsPerS / 8_000) * BURST_MS));
  return [`root handle 1: tbf rate ${bitsPerS}bit burst ${burst}b latency ${QUEUE_MS}ms`, ...(netemMs > 0 ? [`parent 1:1 handle 10: ${netem}`] : [])];
}

function namespaces(): string[] {
  try {
    return readdirSync(NAMESPACES);
  } catch {
    return []; // nobody ever made one
  }
}

/** True if a route ("10.0.0.0/8", "10.77.3.1") and a /24 network ("10.77.3") have addresses in common. */
export function overlaps(route: string, network: string): boolean {
  const [address = '', length = '32'] = route.split('/');
  const bits = Math.min(Number(length), 24);
  // A route to everything speaks for no network in particular.
  if (bits === 0) return false;
  const shift = 32 - bits;
  return numberOf(address) >>> shift === numberOf(`${network}.0`) >>> shift;
}

function numberOf(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}
