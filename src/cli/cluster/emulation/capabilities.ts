/** What this machine can emulate, found by trying it where nothing is left behind, and what to do about the rest. */
import { groupPlan, makeGroup, makeNodeGroup, removeGroup } from './node-groups.ts';
import { runNow } from './programs.ts';

/** Something that is not there. */
export interface Missing {
  readonly what: string;
  /** What to do, one line; a command where there is one. */
  readonly fix: string;
}

/** What can be emulated by the kernel. */
export interface Capabilities {
  /** What network namespaces with shaped links lack; empty: they work. */
  readonly network: readonly Missing[];
  /** Whether the kernel can delay packets. */
  readonly netem: boolean;
  /** What CPU quotas lack; empty: they work. */
  readonly quota: readonly Missing[];
}

const INSTALL = 'sudo apt-get install -y iproute2 util-linux';

/** Tries everything; takes some milliseconds. */
export function probeCapabilities(): Capabilities {
  const network = probeNetwork();
  return { network, netem: network.length === 0 && probeNetem(), quota: probeQuota() };
}

function probeNetwork(): Missing[] {
  if (process.platform !== 'linux') return [{ what: `network namespaces (this is ${process.platform}, they need Linux)`, fix: 'use a Linux machine' }];
  const missing: Missing[] = [];
  for (const [program, args] of [['ip', ['-V']], ['tc', ['-V']], ['nsenter', ['--version']], ['unshare', ['--version']]] as const) {
    if (!runNow(program, args).ok) missing.push({ what: `the program ${program}`, fix: INSTALL });
  }
  if (process.getuid?.() !== 0) missing.push({ what: 'root', fix: 'start it as root: sudo metronome up …' });
  if (missing.length > 0) return missing;
  // A namespace without a name is gone with the process that made it.
  const inside = runNow('unshare', ['--net', 'sh', '-c', 'ip link add probe0 type veth peer name probe1 && ip link add probe2 type bridge && tc qdisc add dev probe0 root tbf rate 1mbit burst 32kb latency 50ms']);
  if (!inside.ok) {
    const isRight = /not permitted|denied/i.test(inside.problem);
    return [isRight
      ? { what: `the right to make networks (${inside.problem})`, fix: 'in a container, start it with --cap-add NET_ADMIN --cap-add SYS_ADMIN' }
      : { what: `veth, bridge or tbf in this kernel (${inside.problem})`, fix: 'sudo modprobe -a veth bridge sch_tbf' }];
  }
  return [];
}

function probeNetem(): boolean {
  return runNow('unshare', ['--net', 'tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '1ms']).ok;
}

function probeQuota(): Missing[] {
  const plan = groupPlan();
  if (plan === undefined) return [{ what: 'control groups with a CPU controller', fix: 'mount them: sudo mount -t cgroup2 none /sys/fs/cgroup' }];
  const name = `metronome-probe-${process.pid}`;
  let made: readonly string[] = [];
  try {
    made = makeGroup(plan, name, 1);
    makeNodeGroup(plan, name, 'node', 0.5);
    return [];
  } catch (error) {
    return [{ what: `control groups that may be written (${error instanceof Error ? error.message : String(error)})`, fix: process.getuid?.() === 0 ? 'give the CPU controller to this container: docker run --privileged --cgroupns=host' : 'start it as root: sudo metronome up …' }];
  } finally {
    for (const folder of made) removeGroup(folder);
  }
}
