import { describe, expect, it } from 'vitest';
import { createStepTargets } from '../../src/workflow/step-targets.ts';

const CHAIN = [{ name: 'split', after: [] }, { name: 'work', after: ['split'] }, { name: 'merge', after: ['work'] }];
const took = (...times: readonly (readonly [string, number])[]): ReadonlyMap<string, number> => new Map(times);

describe('the target of a step', () => {
  it('is an equal share of what is left before a run has ended: of three steps a third, then a half, then all', () => {
    const targets = createStepTargets(CHAIN);
    expect(targets.targetMs('split', 900)).toBe(300);
    expect(targets.targetMs('work', 700)).toBe(350);
    expect(targets.targetMs('merge', 200)).toBe(200);
  });

  it('leaves what the later steps took: 900 − (300 + 150), 700 − 150, all', () => {
    const targets = createStepTargets(CHAIN);
    targets.runEnded(took(['split', 100], ['work', 300], ['merge', 150]));
    expect(targets.targetMs('split', 900)).toBe(450);
    expect(targets.targetMs('work', 700)).toBe(550);
    expect(targets.targetMs('merge', 200)).toBe(200);
  });

  it('is its share of what is left when that does not suffice for it and the rest: 100 of 550, of 330 that are left', () => {
    const targets = createStepTargets(CHAIN);
    targets.runEnded(took(['split', 100], ['work', 300], ['merge', 150]));
    expect(targets.targetMs('split', 330)).toBeCloseTo(60, 9);
    // Where it just suffices both are the same.
    expect(targets.targetMs('split', 550)).toBe(100);
    expect(targets.targetMs('split', 551)).toBe(101);
  });

  it('is at least 1 ms, however late it is', () => {
    const targets = createStepTargets(CHAIN);
    expect(targets.targetMs('split', -50)).toBe(1);
    targets.runEnded(took(['split', 100], ['work', 300], ['merge', 150]));
    expect(targets.targetMs('split', -50)).toBe(1);
    expect(targets.targetMs('merge', 0.5)).toBe(1);
  });

  it('counts the longest way to the end, not the steps beside it', () => {
    const targets = createStepTargets([
      { name: 'end', after: ['quick', 'second'] }, { name: 'begin', after: [] }, { name: 'quick', after: ['begin'] }, { name: 'first', after: ['begin'] }, { name: 'second', after: ['first'] },
    ]);
    // begin → first → second → end: four steps; begin → quick → end: three.
    expect(targets.targetMs('begin', 1_000)).toBe(250);
    expect(targets.targetMs('quick', 1_000)).toBe(500);
    targets.runEnded(took(['begin', 10], ['quick', 500], ['first', 100], ['second', 100], ['end', 50]));
    expect(targets.targetMs('begin', 1_000)).toBe(450); // 500 + 50 by way of quick
    expect(targets.targetMs('first', 1_000)).toBe(850);
    expect(targets.targetMs('quick', 1_000)).toBe(950);
  });

  it('goes by the ninth of ten runs, and by the last 64 only', () => {
    const targets = createStepTargets(CHAIN);
    for (let run = 1; run <= 10; run++) targets.runEnded(took(['split', 1], ['work', 1], ['merge', 10 * run]));
    expect(targets.targetMs('work', 1_000)).toBe(910);
    for (let run = 0; run < 64; run++) targets.runEnded(took(['split', 1], ['work', 1], ['merge', 20]));
    expect(targets.targetMs('work', 1_000)).toBe(980);
  });

  it('of a step that took nothing is all that is left, if nothing comes after it that took time', () => {
    const targets = createStepTargets(CHAIN);
    targets.runEnded(took(['split', 5]));
    expect(targets.targetMs('work', 100)).toBe(100);
    expect(targets.targetMs('split', 100)).toBe(100);
  });
});
