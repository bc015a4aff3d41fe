/** The imitated link: its rate holds over time, all transfers share it, and latency is added once per exchange and side. */
import { describe, expect, it } from 'vitest';
import { LinkShaper } from '../../src/agent/objects/link-shaper.ts';
import { putObject, testAgent } from './harness.ts';

/** Transfers that move pieces whenever the link lets them, on virtual time; returns what each had moved by `untilMs`. */
function simulate(bytesPerS: number, transfers: readonly { readonly pieceBytes: number; readonly everyMs: number }[], untilMs: number): number[] {
  let nowMs = 0;
  const shaper = new LinkShaper(bytesPerS, () => nowMs);
  const moved = transfers.map(() => 0);
  const dueMs = transfers.map(() => 0);
  for (;;) {
    const next = dueMs.indexOf(Math.min(...dueMs));
    nowMs = dueMs[next] as number;
    if (nowMs >= untilMs) return moved;
    const { pieceBytes, everyMs } = transfers[next] as (typeof transfers)[number];
    moved[next] = (moved[next] as number) + pieceBytes;
    dueMs[next] = nowMs + Math.max(everyMs, shaper.take(pieceBytes));
  }
}

describe('an imitated link', () => {
  it('passes its rate, whatever the pieces', () => {
    for (const pieceBytes of [500, 4_000, 60_000]) {
      const [moved = 0] = simulate(1e6, [{ pieceBytes, everyMs: 0.01 }], 10_000);
      expect(moved).toBeGreaterThan(9.9e6);
      expect(moved).toBeLessThan(10.2e6);
    }
  });

  it('is shared evenly by those who want more, after those who want less', () => {
    const greedy = { pieceBytes: 10_000, everyMs: 0.01 };
    const modest = { pieceBytes: 10_000, everyMs: 100 };
    const [a = 0, b = 0, c = 0] = simulate(1e6, [greedy, greedy, modest], 10_000);
    expect(c).toBeGreaterThan(0.95e6);
    expect(a / b).toBeGreaterThan(0.95);
    expect(a / b).toBeLessThan(1.05);
    expect(a + b + c).toBeGreaterThan(9.9e6);
  });

  it('without a limit never waits', () => {
    const shaper = new LinkShaper(0);
    expect([shaper.take(1e12), shaper.pieceBytes(5), shaper.isLimited]).toEqual([0, 5, false]);
  });
});

describe('an agent with an imitated link', () => {
  it('neither gives nor takes faster than it', async () => {
    await using slow = await testAgent({ linkBytesPerS: 1_000_000, linkLatencyMs: 50 });
    const content = Buffer.alloc(700_000, 'x');
    const timed = async <T>(work: Promise<T>): Promise<[T, number]> => {
      const startedAt = performance.now();
      return [await work, performance.now() - startedAt];
    };
    const [object, putMs] = await timed(putObject(slow.agent.dataUrl, 'x.bin', content));
    expect(putMs).toBeGreaterThan(650);
    const get = async (): Promise<number> => (await (await fetch(`${slow.agent.dataUrl}/objects/${object.id}`)).arrayBuffer()).byteLength;
    const [sizes, bothMs] = await timed(Promise.all([get(), get()]));
    expect(sizes).toEqual([content.length, content.length]);
    expect(bothMs).toBeGreaterThan(1_350);
    const [, headMs] = await timed(fetch(`${slow.agent.dataUrl}/objects/${object.id}`, { method: 'HEAD' }));
    expect(headMs).toBeGreaterThanOrEqual(49);
  });
});
