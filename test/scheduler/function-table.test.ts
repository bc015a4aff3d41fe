import { describe, expect, it } from 'vitest';
import { BUSY, FunctionTable, IDLE, type FunctionSettings } from '../../src/scheduler/function-table.ts';

const settings = (name: string, memoryMb: number, version = '1'): FunctionSettings => ({
  name, version, packageSet: '', slaMs: 1_000, timeoutMs: 1_000, concurrency: 0, idempotent: true, retries: 0, policy: '', localityKey: '', reuse: true, memoryMb, critical: false,
});

describe('memory that sandboxes may take on a node', () => {
  it('is that of all idle and busy ones of all functions, by their limits', () => {
    const table = new FunctionTable(4);
    const small = table.put(settings('small', 128)), large = table.put(settings('large', 512));
    small.set(1, IDLE, 3);
    large.set(1, BUSY, 1);
    large.set(2, IDLE, 1);
    expect([...table.sandboxMb]).toEqual([0, 3 * 128 + 512, 512, 0]);
    small.set(1, IDLE, 1);
    small.set(1, BUSY, 1);
    expect(table.sandboxMb[1]).toBe(2 * 128 + 512);
  });

  it('follows a function that gets another size, ends with a new version, and goes with the node', () => {
    const table = new FunctionTable(4);
    const entry = table.put(settings('f', 128));
    entry.set(0, IDLE, 2);
    entry.set(3, BUSY, 1);
    table.put(settings('f', 256));
    expect([...table.sandboxMb]).toEqual([512, 0, 0, 256]);
    table.forgetNode(3);
    expect([...table.sandboxMb]).toEqual([512, 0, 0, 0]);
    table.put(settings('f', 64, '2'));
    expect([...table.sandboxMb]).toEqual([0, 0, 0, 0]);
  });
});

describe('waits since a function last made a sandbox', () => {
  it('add up, fade to 1/e in a minute, and end with a new sandbox', () => {
    const entry = new FunctionTable(1).put(settings('f', 128));
    expect(entry.rentMs(5)).toBe(0);
    entry.payRent(100, 0);
    entry.payRent(50, 0);
    expect(entry.rentMs(0)).toBe(150);
    expect(entry.rentMs(60_000)).toBeCloseTo(150 / Math.E);
    entry.boughtSandbox();
    expect(entry.rentMs(60_000)).toBe(0);
  });
});
