/**
 * Two network namespaces on a bridge, each behind a link of 1 Gbit/s in both directions (tbf); the bridge has an address for the
 * scheduler. Needs root and iproute2. Everything is removed by `close`.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The namespaces. */
export interface ShapedLink {
  /** Address of the bridge. */
  readonly hostAddress: string;
  /** Addresses inside, in order. */
  readonly addresses: readonly [string, string];
  /** Arguments that run a command inside; not `ip netns exec`, which hides /sys/fs/cgroup. */
  enter(index: 0 | 1): readonly string[];
  close(): Promise<void>;
}

/** Rate of each link in each direction, bytes per second. */
export const LINK_BYTES_PER_S = 125e6;

/** Makes them; undefined with the reason on `progress` where it cannot be done. */
export async function openShapedLink(progress: (text: string) => void): Promise<ShapedLink | undefined> {
  const tag = (process.pid % 100_000).toString(36);
  const bridge = `mdb${tag}`;
  const subnet = `10.${100 + (process.pid % 100)}.${process.pid % 250}`;
  const namespaces = [`mdp${tag}-0`, `mdp${tag}-1`] as const;
  const addresses = [`${subnet}.10`, `${subnet}.11`] as const;
  const undo = async (): Promise<void> => {
    for (const name of namespaces) await run('ip', ['netns', 'delete', name]).catch(() => {}); // not made yet
    await run('ip', ['link', 'delete', bridge]).catch(() => {}); // not made yet
  };
  const ip = (...args: string[]): Promise<unknown> => run('ip', args);
  const shape = (...args: string[]): Promise<unknown> => run('tc', ['qdisc', 'add', 'dev', ...args, 'root', 'tbf', 'rate', '1gbit', 'burst', '256kb', 'latency', '50ms']);
  try {
    await ip('link', 'add', bridge, 'type', 'bridge');
    await ip('addr', 'add', `${subnet}.1/24`, 'dev', bridge);
    await ip('link', 'set', bridge, 'up');
    for (const [i, name] of namespaces.entries()) {
      const outer = `mdv${tag}-${i}`;
      await ip('netns', 'add', name);
      await ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
      await ip('link', 'set', outer, 'master', bridge, 'up');
      await ip('-n', name, 'link', 'set', 'lo', 'up');
      await ip('-n', name, 'addr', 'add', `${addresses[i]}/24`, 'dev', 'eth0');
      await ip('-n', name, 'link', 'set', 'eth0', 'up');
      await run('nsenter', [`--net=/run/netns/${name}`, 'tc', 'qdisc', 'add', 'dev', 'eth0', 'root', 'tbf', 'rate', '1gbit', 'burst', '256kb', 'latency', '50ms']);
      await shape(outer);
    }
  } catch (error) {
    await undo();
    progress(`dataplane: no network namespaces (needs root; apt-get install -y iproute2): ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
    return undefined;
  }
  return { hostAddress: `${subnet}.1`, addresses, enter: (index) => ['nsenter', `--net=/run/netns/${namespaces[index]}`], close: undo };
}
