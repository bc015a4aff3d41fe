/** What is planned for an emulated cluster: labels, fall-backs, names, networks; all without touching the machine. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Capabilities } from '../../src/cli/cluster/emulation/capabilities.ts';
import { MAX_NODES, allIds, bridgeAddress, bridgeName, cableName, isId, namespaceName, networkOf, nodeAddress } from '../../src/cli/cluster/emulation/names.ts';
import { overlaps } from '../../src/cli/cluster/emulation/namespaces.ts';
import { isWanted, planEmulation, type EmulationRequest } from '../../src/cli/cluster/emulation/plan.ts';
import { loadConfig } from '../../src/config/load.ts';
import { parseBitsPerS } from '../../src/core/units.ts';

const EVERYTHING: Capabilities = { network: [], netem: true, quota: [] };
const NOTHING: Capabilities = { network: [{ what: 'root', fix: 'start it as root' }, { what: 'the program tc', fix: 'apt-get install iproute2' }], netem: false, quota: [{ what: 'control groups', fix: 'mount them' }] };
const request = (changes: Partial<EmulationRequest>): EmulationRequest => ({ linkBitsPerS: 0, latencyMs: 0, cpus: 0, mode: 'auto', ...changes });

describe('the plan of an emulation', () => {
  it('is the kernel where it can', () => {
    expect(planEmulation(request({ linkBitsPerS: 250e6, latencyMs: 2, cpus: 0.5 }), EVERYTHING, 4, 2)).toEqual({
      network: 'namespaces', netemMs: 2, quota: true, labels: { link: '250mbit (kernel)', latency: '2ms (kernel)', cpus: '0.5 (quota)' }, agentArgs: ['--link-rate', '250000000'], notes: [],
    });
  });

  it('adds latency in the data plane where the kernel cannot, and says so', () => {
    const plan = planEmulation(request({ linkBitsPerS: 1e9, latencyMs: 2 }), { ...EVERYTHING, netem: false }, 4, 2);
    expect(plan).toMatchObject({ network: 'namespaces', netemMs: 0, labels: { link: '1gbit (kernel)', latency: '2ms (data plane)' }, agentArgs: ['--link-rate', '1000000000', '--link-latency', '2ms'] });
    expect(plan.notes).toEqual([expect.stringContaining('cannot delay packets')]);
  });

  it('falls back to the data plane and names all that is missing with what to do', () => {
    const plan = planEmulation(request({ linkBitsPerS: 250e6, latencyMs: 1.5, cpus: 0.5 }), NOTHING, 4, 2);
    expect(plan).toMatchObject({ network: 'data-plane', quota: false, labels: { link: '250mbit (data plane)', latency: '1.5ms (data plane)', cpus: 'all (0.5 wanted)' }, agentArgs: ['--link-bytes-per-s', '31250000', '--link-latency', '1.5ms'] });
    expect(plan.notes).toEqual([expect.stringMatching(/Missing: root — start it as root; the program tc — apt-get install iproute2/), expect.stringContaining('control groups — mount them')]);
  });

  it('takes the data plane without a word when it was asked for, and refuses when the kernel was', () => {
    expect(planEmulation(request({ linkBitsPerS: 1e9, mode: 'data-plane' }), EVERYTHING, 2, 2)).toMatchObject({ network: 'data-plane', notes: [] });
    expect(() => planEmulation(request({ linkBitsPerS: 1e9, mode: 'namespaces' }), NOTHING, 2, 2)).toThrow(/cannot be emulated by the kernel here\. Missing: root — start it as root/);
  });

  it('warns when the nodes have more CPUs than the machine', () => {
    expect(planEmulation(request({ cpus: 1 }), EVERYTHING, 4, 2).notes).toEqual([expect.stringContaining('4 nodes with 1 CPUs each are more than the 2')]);
    expect(planEmulation(request({ cpus: 0.5 }), EVERYTHING, 4, 2)).toMatchObject({ network: 'none', quota: true, notes: [] });
  });

  it('is not made when nothing is wanted', () => {
    expect(isWanted(request({}))).toBe(false);
    expect(isWanted(request({ latencyMs: 1 }))).toBe(true);
  });
});

describe('names of emulated clusters', () => {
  it('are never shared, and fit into what the kernel allows', () => {
    const ids = allIds();
    expect(new Set(ids).size).toBe(3 * 256);
    expect(new Set(ids.map(networkOf)).size).toBe(ids.length);
    const names = ids.flatMap((id) => [bridgeName(id), ...[1, MAX_NODES].flatMap((n) => [cableName(id, n), namespaceName(id, n)])]);
    expect(new Set(names).size).toBe(names.length);
    expect(Math.max(...names.map(({ length }) => length))).toBeLessThan(16);
    expect(ids.every(isId)).toBe(true);
    for (const strange of ['', 'mta', 'mta256', 'mta01', 'mtd1', 'mta1x', '../mta1']) expect(isId(strange)).toBe(false);
    expect([bridgeAddress('mtb7'), nodeAddress('mtb7', 1), nodeAddress('mtb7', MAX_NODES)]).toEqual(['172.27.7.1', '172.27.7.11', '172.27.7.74']);
  });

  it.each<[string, string, boolean]>([
    ['10.77.3.0/24', '10.77.3', true], ['10.77.3.0/24', '10.77.4', false], ['10.77.0.0/16', '10.77.4', true], ['10.0.0.0/8', '10.77.4', true], ['10.77.4.99', '10.77.4', true],
    ['10.77.4.128/25', '10.77.4', true], ['10.78.0.0/15', '10.77.4', false], ['192.168.0.0/16', '10.77.4', false], ['0.0.0.0/0', '10.77.4', false],
  ])('route %s and network %s.0/24 have addresses in common: %s', (route, network, expected) => {
    expect(overlaps(route, network)).toBe(expected);
  });
});

describe('rates', () => {
  it('are read in the units of tc', () => {
    expect(['250mbit', '1gbit', '1.5 Gbit', '64kbit', '2mibit', '1000', 5e6].map(parseBitsPerS)).toEqual([250e6, 1e9, 1.5e9, 64e3, 2 * 1024 ** 2, 1_000, 5e6]);
    expect(['', 'fast', '250mbps', '10MB', '-1mbit', Number.NaN].map(parseBitsPerS)).toEqual(Array.from({ length: 6 }, () => undefined));
  });

  it('come through the configuration and back as they were written', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 99_999 }), fc.constantFrom('mbit', 'gbit'), (amount, unit) => {
      fc.pre(unit === 'mbit' || amount <= 100);
      const { config } = loadConfig({ flags: { 'up.link': `${amount}${unit}` }, env: {}, cwd: '/nonexistent' });
      expect(config.up.linkBitsPerS).toBe(amount * (unit === 'mbit' ? 1e6 : 1e9));
    }), { numRuns: 50 });
  });

  it.each<[string, RegExp]>([
    ['fast', /must be a rate such as "250mbit" or "1gbit", not "fast"/],
    ['250mbps', /write it in bits: kbit, mbit or gbit/],
    ['250', /must be 0 or from 100kbit to 100gbit, not "250" \(a number without a unit is bits per second; did you mean "250mbit"\?\)/],
    ['200gbit', /must be 0 or from 100kbit to 100gbit/],
  ])('%s is refused in words', (text, message) => {
    expect(() => loadConfig({ flags: { 'up.link': text }, env: {}, cwd: '/nonexistent' })).toThrow(message);
  });
});
