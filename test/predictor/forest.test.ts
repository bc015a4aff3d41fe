import fc from 'fast-check';
import { RandomForestRegression } from 'ml-random-forest';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../../src/core/random.ts';
import { trainExtraTree } from '../../src/predictor/model/extra-trees.ts';
import { createForest, leafOf, putTree, sumTrees, type FlatTree } from '../../src/predictor/model/flat-forest.ts';
import { flattenLibraryTree, LIBRARY_ROWS, trainLibraryTree, type LibraryForest } from '../../src/predictor/model/library-trainer.ts';
import { TRAINERS, type TreeJob } from '../../src/predictor/model/trainer.ts';
import { trainTree } from '../../src/predictor/model/train-tree.ts';

const WIDTH = 8;

/** Rows of `WIDTH` numbers and a target that depends on some of them. */
function makeRows(count: number, seed: number): { rows: Float64Array; targets: Float64Array } {
  const random = createRandom(seed);
  const rows = Float64Array.from({ length: count * WIDTH }, (_, i) => (i % WIDTH === 3 ? random.below(4) : random.uniform() * 10 - 5));
  const targets = Float64Array.from({ length: count }, (_, r) => Math.sin(rows[r * WIDTH + 2] as number) + (rows[r * WIDTH + 3] as number) + 0.01 * random.uniform());
  return { rows, targets };
}

function job(count: number, seed: number, changes: Partial<TreeJob> = {}): TreeJob {
  return { trainer: 'extra-trees', seed, place: 0, ...makeRows(count, seed), width: WIDTH, firstColumn: 2, maxDepth: 12, minLeaf: 3, maxNodes: 4_096, ...changes };
}

/** A forest of these trees. */
function forestOf(trees: readonly FlatTree[]) {
  const forest = createForest(trees.length, Math.max(...trees.map(({ size }) => size)));
  trees.forEach((tree, t) => putTree(forest, t, tree));
  return forest;
}

describe('flat trees', () => {
  it('send what is below the threshold left and what reaches it right', () => {
    const tree: FlatTree = { size: 3, depth: 1, column: Uint8Array.of(2, 0, 0), threshold: Float64Array.of(1.5, Infinity, Infinity), link: Int32Array.of(1, 1, 2), value: Float64Array.of(0, -1, 1) };
    const forest = forestOf([tree]);
    const rows = Float64Array.of(0, 0, 1.4999, 0, 0, 1.5, 0, 0, 1.6);
    expect([0, 3, 6].map((offset) => forest.value[leafOf(forest, 0, rows, offset)])).toEqual([-1, 1, 1]);
  });

  it('predict the bits of ml-random-forest, tree by tree and as a whole', () => {
    for (const seed of [1, 2, 3]) {
      const { rows, targets } = makeRows(150, seed);
      const matrix = Array.from(targets, (_, r) => Array.from(rows.subarray(r * WIDTH + 2, (r + 1) * WIDTH)));
      const library = new RandomForestRegression({ nEstimators: 12, seed, maxFeatures: 0.7, replacement: false, useSampleBagging: true, noOOB: true, treeOptions: { maxDepth: 10, minNumSamples: 3 } });
      library.train(matrix, Array.from(targets));
      const forest = forestOf(Array.from({ length: 12 }, (_, t) => flattenLibraryTree(library.toJSON() as unknown as LibraryForest, t, 2)));
      const asked = makeRows(203, seed + 100).rows;
      const questions = Array.from({ length: 203 }, (_, r) => Array.from(asked.subarray(r * WIDTH + 2, (r + 1) * WIDTH)));
      const perTree = library.predictionValues(questions);
      const whole = library.predict(questions);
      const sums = new Float64Array(203);
      sumTrees(forest, asked, WIDTH, 203, sums);
      for (let r = 0; r < 203; r++) {
        for (let t = 0; t < 12; t++) expect(forest.value[leafOf(forest, t, asked, r * WIDTH)]).toBe(perTree.get(r, t));
        expect((sums[r] as number) / 12).toBe(whole[r]);
      }
    }
  });

  it('give the same sums four rows at a time as one by one', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 23 }), fc.integer({ min: 0, max: 1_000 }), (count, seed) => {
        const forest = forestOf([1, 2, 3].map((k) => trainExtraTree(job(60, seed + k))));
        const { rows } = makeRows(count, seed + 7);
        const sums = new Float64Array(count);
        sumTrees(forest, rows, WIDTH, count, sums);
        for (let r = 0; r < count; r++) {
          const values = [0, 1, 2].map((t) => forest.value[leafOf(forest, t, rows, r * WIDTH)] as number);
          expect(sums[r]).toBe(values.reduce((sum, value) => sum + value, 0));
        }
      }),
      { numRuns: 30 },
    );
  });

  it('refuse a tree that is larger than its place', () => {
    const tree = trainExtraTree(job(60, 1));
    expect(() => putTree(createForest(1, tree.size - 1), 0, tree)).toThrow(RangeError);
  });
});

describe.each(TRAINERS)('the trainer %s', (trainer) => {
  it('grows the same tree from the same job', () => {
    expect(trainTree(job(120, 5, { trainer }))).toEqual(trainTree(job(120, 5, { trainer })));
  });

  it('never tests a key and keeps depth and room', () => {
    const tree = trainTree(job(200, 6, { trainer, maxDepth: 5 }));
    expect(tree.depth).toBeLessThanOrEqual(5);
    for (let node = 0; node < tree.size; node++) if (tree.link[node] !== node) expect(tree.column[node]).toBeGreaterThanOrEqual(2);
    expect(tree.size).toBeGreaterThan(5);
  });

  it('learns what the target depends on', () => {
    const { rows, targets } = makeRows(250, 9);
    const forest = forestOf(Array.from({ length: 20 }, (_, k) => trainTree(job(250, 9, { trainer, seed: k, rows, targets }))));
    const asked = makeRows(100, 10);
    const sums = new Float64Array(100);
    sumTrees(forest, asked.rows, WIDTH, 100, sums);
    const mean = targets.reduce((sum, target) => sum + target, 0) / targets.length;
    let error = 0, spread = 0;
    for (let r = 0; r < 100; r++) {
      error += ((sums[r] as number) / 20 - (asked.targets[r] as number)) ** 2;
      spread += (mean - (asked.targets[r] as number)) ** 2;
    }
    expect(error).toBeLessThan(0.4 * spread);
  });

  it('makes one leaf of equal targets', () => {
    const tree = trainTree(job(50, 3, { trainer, targets: new Float64Array(50).fill(0.25) }));
    expect([tree.size, tree.depth, tree.value[0]]).toEqual([1, 0, 0.25]);
  });

  it('refuses rows and targets that are not finite, by their place', () => {
    const broken = job(20, 3, { trainer });
    broken.rows[5 * WIDTH + 4] = Number.NaN;
    expect(() => trainTree(broken)).toThrow('Column 4 of row 5 is NaN');
    const endless = job(20, 3, { trainer });
    endless.targets[7] = Infinity;
    expect(() => trainTree(endless)).toThrow('target of row 7');
  });
});

describe('the trainer ml-random-forest', () => {
  it('refuses a bag that would take seconds', () => {
    expect(() => trainLibraryTree(job(LIBRARY_ROWS + 1, 1, { trainer: 'ml-random-forest' }))).toThrow(`at most ${LIBRARY_ROWS}`);
  });
});

describe('the trainer extra-trees', () => {
  it('leaves at least minLeaf rows on each side, and splits where it must', () => {
    // Two groups that one column tells apart: any threshold between 0 and 1 does it.
    const rows = new Float64Array(10 * WIDTH), targets = new Float64Array(10);
    for (let r = 5; r < 10; r++) {
      rows[r * WIDTH + 4] = 1;
      targets[r] = 2;
    }
    const tree = trainExtraTree(job(10, 1, { rows, targets }));
    expect([tree.size, tree.column[0], tree.value[1], tree.value[2]]).toEqual([3, 4, 0, 2]);
    expect(trainExtraTree(job(10, 1, { rows, targets, minLeaf: 6 })).size).toBe(1);
    expect(trainExtraTree(job(10, 1, { rows, targets, maxNodes: 2 })).size).toBe(1);
  });
});
