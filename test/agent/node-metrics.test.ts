/** Node metrics: from /proc, from control groups of both versions, and when they are worth a message. */
import { EventEmitter } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { createCgroupSource, findNodeGroup } from '../../src/agent/metrics/cgroup-source.ts';
import { createHostSource } from '../../src/agent/metrics/host-source.ts';
import { readLinkRate } from '../../src/agent/metrics/link-rate.ts';
import { createNodeMetricsReader, openNodeMetrics } from '../../src/agent/metrics/node-metrics.ts';
import { isWorthTelling } from '../../src/agent/metrics/significance.ts';
import { ownCgroups } from '../../src/agent/own-cgroups.ts';
import { StateHub, type StateSource } from '../../src/agent/state-hub.ts';
import { NodeMetrics, type WatchStateResponse } from '../../src/rpc/gen/metronome/v1/agent.ts';
import { tempDir } from './harness.ts';

/** Writes files by path below a folder. */
async function writeFiles(root: string, files: Readonly<Record<string, string | number>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), typeof content === 'number' ? `${content}\n` : content);
  }
}

/** A /proc with the numbers of one moment. */
const procOf = (busy: number, sectors: number, rx: number, stallUs: number): Record<string, string> => ({
  stat: `cpu  ${busy} 0 0 1000 0 0 0 0 0 0\ncpu0 1 2 3\n`,
  loadavg: '1.50 1.19 0.67 4/107 28480\n',
  meminfo: 'MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    250 kB\n',
  diskstats: `   8       0 sda 1 0 ${sectors} 0 1 0 ${sectors * 2} 0 0 ${sectors / 4} 0\n   8       1 sda1 1 0 ${sectors} 0 1 0 ${sectors} 0 0 0 0\n`,
  'net/dev': `Inter-|   Receive |\n face |bytes    packets\n    lo: 999999 5 0 0 0 0 0 0 999999 5 0\n  eth0:${rx} 10 0 0 0 0 0 0 ${rx * 2} 20 0 0\n`,
  'pressure/cpu': `some avg10=0.00 avg60=0.00 avg300=0.00 total=${stallUs}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n`,
});

describe('metrics of the host', () => {
  it('are shares and rates between two samples', async () => {
    await using root = await tempDir();
    await writeFiles(root.path, procOf(0, 0, 0, 0));
    let nowMs = 1_000;
    const reader = createNodeMetricsReader(createHostSource(root.path), () => nowMs);
    expect(reader.source).toBe('host');
    expect(reader.sample()).toMatchObject({ memoryUtilisation: 0.75, memoryFreeMb: 250 / 1024, diskReadBytesPerS: 0, runnable: 3 });
    nowMs += 50;
    await writeFiles(root.path, procOf(1_000, 100, 5_000, 20_000));
    const sample = reader.sample();
    // The idle count stood still while busy went up by 1000.
    expect(sample).toMatchObject({ cpuUtilisation: 1, diskReadBytesPerS: 1_024_000, diskWriteBytesPerS: 2_048_000, networkRxBytesPerS: 100_000, networkTxBytesPerS: 200_000, diskUtilisation: 0.5 });
    expect(sample.cpuPressure).toBeCloseTo(0.4, 9);
    expect(sample.sampleUs).toBeGreaterThan(0);
    nowMs += 1;
    expect(reader.sample()).toBe(sample);
    expect(sample.ioPressure).toBe(0);
    reader.close();
  });

  it('take CPU time from the root of the unified hierarchy where there is one', async () => {
    await using root = await tempDir();
    const write = (usageUs: number): Promise<void> => writeFiles(root.path, { ...procOf(0, 0, 0, 0), 'group/cpu.stat': `usage_usec ${usageUs}\nuser_usec 1\n` });
    await write(5_000);
    let nowMs = 1_000;
    const reader = createNodeMetricsReader(createHostSource(root.path, join(root.path, 'group')), () => nowMs);
    reader.sample();
    nowMs += 50;
    await write(5_000 + 25_000 * availableParallelism());
    expect(reader.sample().cpuUtilisation).toBeCloseTo(0.5, 9);
    reader.close();
  });

  it('are there on this machine, and zeros where files are missing', () => {
    const here = openNodeMetrics('host');
    expect(here.sample().memoryFreeMb).toBeGreaterThan(1);
    here.close();
    const nowhere = createNodeMetricsReader(createHostSource('/nonexistent'));
    const { sampleUs, linkUtilisation, ...rest } = nowhere.sample();
    expect(sampleUs).toBeGreaterThan(0);
    expect(linkUtilisation).toBe(-1);
    expect(Object.values(rest).every((value) => value === 0)).toBe(true);
    nowhere.close();
  });
});

describe('the utilisation of the link', () => {
  it('is that of the busier direction, against the rate of the link', async () => {
    await using root = await tempDir();
    await writeFiles(root.path, procOf(0, 0, 0, 0));
    let nowMs = 1_000;
    const reader = createNodeMetricsReader(createHostSource(root.path), () => nowMs, 400_000);
    expect(reader.sample().linkUtilisation).toBe(0);
    nowMs += 50;
    await writeFiles(root.path, procOf(0, 0, 5_000, 0)); // 100 000 bytes/s in, twice that out
    expect(reader.sample().linkUtilisation).toBeCloseTo(0.5, 9);
    nowMs += 50;
    await writeFiles(root.path, procOf(0, 0, 500_000, 0));
    expect(reader.sample().linkUtilisation).toBe(1);
    reader.close();
  });

  it('takes the rate from the interfaces to other nodes, unless one of them does not know it', async () => {
    await using root = await tempDir();
    const rate = async (speeds: Readonly<Record<string, number>>): Promise<number> => {
      await writeFiles(root.path, Object.fromEntries(Object.entries(speeds).map(([name, speed]) => [`${name}/speed`, speed])));
      return readLinkRate(root.path);
    };
    expect(await rate({ docker0: -1, veth1: 10_000 })).toBe(0);
    expect(await rate({ eth0: 1_000, eth1: 2_500 })).toBe(3_500 * 125_000);
    expect(await rate({ eth1: -1 })).toBe(0);
    expect(readLinkRate('/nonexistent')).toBe(0);
  });
});

describe('metrics of a control group', () => {
  it('are measured against the quota of the nearest group that has one (v1, with pressure from the unified hierarchy)', async () => {
    await using root = await tempDir();
    const at = (path: string): string => join(root.path, path);
    await writeFiles(root.path, {
      'self/cgroup': '9:name=systemd:/\n4:memory:/box/n1\n3:blkio:/box/n1\n2:cpuacct:/box/n1\n1:cpu:/box/n1/leaf\n0::/box/n1\n',
      'self/mountinfo': [
        ...['cpu', 'cpuacct', 'memory', 'blkio'].map((name) => `30 29 0:26 / ${at(name)} rw,relatime - cgroup cgroup rw,${name}`),
        `31 29 0:27 / ${at('unified')} rw,relatime - cgroup2 cgroup2 rw`,
      ].join('\n'),
      'cpu/box/n1/leaf/cpu.cfs_quota_us': -1, 'cpu/box/n1/leaf/cpu.cfs_period_us': 100_000,
      'cpu/box/n1/cpu.cfs_quota_us': 4_000, 'cpu/box/n1/cpu.cfs_period_us': 20_000,
    });
    const groups = ownCgroups(at('self'));
    expect(groups.v1.get('cpu')).toBe(at('cpu/box/n1/leaf'));
    expect(groups.unified).toBe(at('unified/box/n1'));
    const found = findNodeGroup(groups);
    expect(found?.cores).toBeCloseTo(0.2, 9);
    expect(found?.v1('cpu')).toBe(at('cpu/box/n1'));

    // Without the leaf, all hierarchies agree.
    await writeFiles(root.path, { 'self/cgroup': ['4:memory', '3:blkio', '2:cpuacct', '1:cpu', '0:'].map((name) => `${name}:/box/n1\n`).join('') });
    const group = findNodeGroup(ownCgroups(at('self')));
    if (group === undefined) throw new Error('no group');
    const write = (usageNs: number, stallUs: number, disk: number): Promise<void> => writeFiles(root.path, {
      'cpuacct/box/n1/cpuacct.usage': usageNs, 'unified/box/n1/cpu.pressure': `some avg10=0.00 avg60=0.00 avg300=0.00 total=${stallUs}\nfull total=1\n`,
      'memory/box/n1/memory.usage_in_bytes': 500 * 1024, 'memory/box/n1/memory.stat': 'inactive_file 1\ntotal_inactive_file 102400\n', 'memory/box/n1/memory.limit_in_bytes': '9223372036854771712\n',
      'blkio/box/n1/blkio.throttle.io_service_bytes_recursive': `254:0 Read ${disk}\n254:0 Write ${disk * 2}\n254:0 Sync 5\n254:0 Total ${disk * 3}\nTotal ${disk * 3}\n`,
      ...Object.fromEntries(Object.entries(procOf(0, 0, 0, 0)).map(([path, text]) => [`proc/${path}`, text])),
    });
    await write(0, 0, 0);
    let nowMs = 1_000;
    const reader = createNodeMetricsReader(createCgroupSource(group, at('proc')), () => nowMs);
    expect(reader.source).toBe('cgroup');
    // The machine has 1000 KiB; 500 are charged, of which 100 are page cache that nobody uses; but only 250 are free on the machine.
    expect(reader.sample()).toMatchObject({ memoryFreeMb: 250 / 1024, memoryUtilisation: 0.75 });
    nowMs += 50;
    await write(5e6, 10_000, 5_000);
    const sample = reader.sample();
    expect(sample.cpuUtilisation).toBeCloseTo(0.5, 9); // 5 ms of the 10 ms that 0.2 CPUs give in 50 ms
    expect(sample.cpuPressure).toBeCloseTo(0.2, 9);
    expect(sample.runnable).toBeCloseTo(0.1 + 0.2, 9);
    expect(sample).toMatchObject({ diskReadBytesPerS: 100_000, diskWriteBytesPerS: 200_000 });
    reader.close();
  });

  it('come from one hierarchy under v2, and from throttling where there are no pressure files', async () => {
    await using root = await tempDir();
    const at = (path: string): string => join(root.path, path);
    // A container that sees only its own part: the paths of /proc begin above it.
    await writeFiles(root.path, {
      'self/cgroup': '0::/docker/abc/agent\n',
      'self/mountinfo': `31 29 0:27 /docker/abc ${at('fs')} rw,relatime - cgroup2 cgroup2 rw`,
      'fs/cpu.max': '50000 100000\n', 'fs/agent/cpu.max': 'max 100000\n', 'fs/memory.max': 'max\n', 'fs/memory.current': 100 * 1024, 'fs/memory.stat': 'anon 5\ninactive_file 0\n',
    });
    const group = findNodeGroup(ownCgroups(at('self')));
    expect(group).toMatchObject({ cores: 0.5, unified: at('fs') });
    if (group === undefined) return;
    const write = (usageUs: number, throttledUs: number, disk: number): Promise<void> => writeFiles(root.path, { 'fs/cpu.stat': `usage_usec ${usageUs}\nnr_periods 1\nthrottled_usec ${throttledUs}\n`, 'fs/io.stat': `8:0 rbytes=${disk} wbytes=${disk * 2} rios=1\n8:16 rbytes=${disk} wbytes=0 rios=1\n` });
    await write(0, 0, 0);
    let nowMs = 1_000;
    const reader = createNodeMetricsReader(createCgroupSource(group, '/nonexistent'), () => nowMs);
    reader.sample();
    nowMs += 100;
    await write(25_000, 30_000, 1_000);
    expect(reader.sample()).toMatchObject({ cpuUtilisation: 0.5, cpuPressure: 0.3, diskReadBytesPerS: 20_000, diskWriteBytesPerS: 20_000 });
    reader.close();
  });

  it('are refused in words when they are wanted and there is no quota', async () => {
    await using root = await tempDir();
    expect(findNodeGroup(ownCgroups(join(root.path, 'self')))).toBeUndefined();
    if (findNodeGroup(ownCgroups()) === undefined) expect(() => openNodeMetrics('cgroup')).toThrow(/agent\.metricsSource is "cgroup"/);
  });
});

describe('what is told', () => {
  const metrics = (changes: Partial<NodeMetrics>): NodeMetrics => ({ ...NodeMetrics.fromPartial({}), ...changes });

  it.each<[string, Partial<NodeMetrics>, Partial<NodeMetrics>, boolean]>([
    ['nothing new', { running: 1 }, { running: 1 }, false],
    ['a count', { running: 1 }, { running: 2 }, true],
    ['a little more CPU', { cpuUtilisation: 0.4 }, { cpuUtilisation: 0.44 }, false],
    ['much more CPU', { cpuUtilisation: 0.4 }, { cpuUtilisation: 0.46 }, true],
    ['a trickle on the network', { networkRxBytesPerS: 0 }, { networkRxBytesPerS: 60_000 }, false],
    ['a stream on the network', { networkRxBytesPerS: 1e6 }, { networkRxBytesPerS: 2e6 }, true],
    ['a fast network that is a little faster', { networkRxBytesPerS: 100e6 }, { networkRxBytesPerS: 105e6 }, false],
    ['a slower fetch', { fetchBytesPerS: 100e6 }, { fetchBytesPerS: 90e6 }, true],
    ['a busier link', { linkUtilisation: 0.2 }, { linkUtilisation: 0.3 }, true],
    ['the cost of a sample, jumping', { sampleUs: 80 }, { sampleUs: 150 }, false],
  ])('%s', (_what, told, now, expected) => {
    expect(isWorthTelling(metrics(told), metrics(now))).toBe(expected);
    expect(isWorthTelling(metrics(now), metrics(told))).toBe(expected);
  });

  it('leaves metrics out while they stand still, adds up small steps, and still gives a sign of life', async () => {
    let now = metrics({ memoryFreeMb: 1_000 });
    const source: StateSource = { epoch: 1, slots: 2, running: () => [], warm: () => [], warmOf: () => ({ function: '', version: '', idle: 0, busy: 0 }), zygotes: () => [], packageSets: () => [], packages: () => [], objects: () => [], metrics: () => now };
    const hub = new StateHub({ source, intervalMs: 10, onReaders: () => {} });
    const sent: WatchStateResponse[] = [];
    const stream = Object.assign(new EventEmitter(), { request: { intervalMs: 10 }, end: () => {}, write: (message: WatchStateResponse) => sent.push(message) > 0 });
    hub.attach(stream as unknown as Parameters<StateHub['attach']>[0]); // the part of a server stream that the hub uses
    const next = (): Promise<boolean> => {
      const { length } = sent;
      return vi.waitUntil(() => sent.length > length + 1, { interval: 1, timeout: 10_000 });
    };
    await next();
    expect(sent[0]).toMatchObject({ snapshot: true, metrics: { memoryFreeMb: 1_000 } });
    expect(sent.slice(1).every((message) => message.metrics === undefined && message.sentAtUnixMs > 0)).toBe(true);
    expect(sent.map(({ sequence }) => sequence)).toEqual(sent.map((_, i) => i + 1));
    // Each step is too small to tell, their sum is not.
    for (let step = 1; step <= 5; step++) {
      now = metrics({ memoryFreeMb: 1_000 + step * 5 });
      await next();
    }
    hub.close();
    const told = sent.flatMap((message) => (message.metrics === undefined ? [] : [message.metrics.memoryFreeMb]));
    expect(told).toEqual([1_000, 1_020]);
  });

  it('names what went, came and went again within one message as gone', () => {
    const source: StateSource = { epoch: 1, slots: 2, running: () => [], warm: () => [], warmOf: () => ({ function: '', version: '', idle: 0, busy: 0 }), zygotes: () => [], packageSets: () => ['s'], packages: () => [{ id: 'p@1', unpackedBytes: 1 }], objects: () => [], metrics: () => metrics({}) };
    const hub = new StateHub({ source, intervalMs: 10_000, onReaders: () => {} });
    const sent: WatchStateResponse[] = [];
    const stream = Object.assign(new EventEmitter(), { request: { intervalMs: 10_000 }, end: () => {}, write: (message: WatchStateResponse) => sent.push(message) > 0 });
    hub.attach(stream as unknown as Parameters<StateHub['attach']>[0]); // the part of a server stream that the hub uses
    hub.packageRemoved('p@1');
    hub.packageAdded({ id: 'p@1', unpackedBytes: 1 });
    hub.packageRemoved('p@1');
    hub.packageSetRemoved('s');
    hub.packageSetAdded('s');
    hub.packageSetRemoved('s');
    stream.emit('drain');
    hub.close();
    expect(sent).toMatchObject([{ packageSetsAdded: ['s'] }, { packageSetsAdded: [], packageSetsRemoved: ['s'], packagesAdded: [], packagesRemoved: ['p@1'] }]);
  });
});
