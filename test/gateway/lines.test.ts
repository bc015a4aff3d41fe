import { MessageChannel } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { createMemoryLine, createWorkerLine } from '../../src/gateway/lines.ts';
import { asBuffer, exactBytes } from '../../src/gateway/payloads.ts';

describe('the memory line', () => {
  it('delivers clones in order, later, also what was sent before anybody listened', async () => {
    const [a, b] = createMemoryLine<{ n: number }, string>();
    const sent = { n: 1 };
    a.post(sent);
    a.post({ n: 2 });
    const got: { n: number }[] = [];
    await new Promise<void>((resolve) => {
      b.onMessage((message) => {
        got.push(message);
        if (got.length === 2) resolve();
      });
      expect(got).toEqual([]);
    });
    expect(got).toEqual([{ n: 1 }, { n: 2 }]);
    expect(got[0]).not.toBe(sent);
  });

  it('refuses what a thread could not receive', () => {
    const [a] = createMemoryLine<object, string>();
    expect(() => a.post({ call: () => 1 })).toThrow();
  });

  it('tells both ends once that it was closed, late listeners too', () => {
    const [a, b] = createMemoryLine<object, object>();
    let told = 0;
    a.onClose(() => told++);
    b.onClose(() => told++);
    b.close();
    a.close();
    b.onClose(() => told++);
    expect(told).toBe(3);
    a.post({});
  });
});

describe('the worker line', () => {
  it('tells the other end of a port that it was closed', async () => {
    const { port1, port2 } = new MessageChannel();
    const a = createWorkerLine<string, string>(port1);
    const b = createWorkerLine<string, string>(port2);
    const closed = new Promise<void>((resolve) => b.onClose(resolve));
    const message = new Promise<string>((resolve) => b.onMessage(resolve));
    a.post('hello');
    expect(await message).toBe('hello');
    a.close();
    await closed;
  });
});

describe('payload bytes', () => {
  it('leave the shared pool behind, and nothing else is copied', () => {
    const pooled = Buffer.from('abc');
    expect(pooled.buffer.byteLength).toBeGreaterThan(3);
    expect(exactBytes(pooled).buffer.byteLength).toBe(3);
    const own = new Uint8Array([1, 2]);
    expect(exactBytes(own)).toBe(own);
    expect(asBuffer(own).buffer).toBe(own.buffer);
    expect(structuredClone(exactBytes(pooled))).toEqual(new Uint8Array([97, 98, 99]));
  });
});
