/** One prediction, as every reader computes it: baseline × exp(mean of the trees + level of the function), mixed with medians of what executions like it lately took, and the quantiles as factors on that. */
import { ROW_WIDTH, SITUATION_WIDTH, COLUMN } from '../features.ts';
import { F_LEVEL, F_Q95, F_Q99, F_SPREAD, completeRow, copySituation, createBaselineScratch, estimatePhases, type BaselineScratch } from './baseline-terms.ts';
import { sumTrees } from './flat-forest.ts';
import { FUNCTION_STRIDE, type ModelView, type PredictionOut } from './model-view.ts';
import { factorOf, mixMedians } from './recent-medians.ts';

/** Rows that are worked on at once: they and their results stay in the cache. */
const CHUNK = 64;

/** Space for the work of one reader. */
export interface PredictionScratch {
  readonly rows: Float64Array;
  readonly totals: Float64Array;
  readonly sums: Float64Array;
  readonly baseline: BaselineScratch;
}

export function createPredictionScratch(): PredictionScratch {
  return { rows: new Float64Array(CHUNK * ROW_WIDTH), totals: new Float64Array(CHUNK), sums: new Float64Array(CHUNK), baseline: createBaselineScratch() };
}

/** Predicts `count` situations from rows[rowOffset] on, SITUATION_WIDTH numbers each. No allocation. */
export function predictRows(view: ModelView, situations: Float64Array, rowOffset: number, count: number, out: PredictionOut, outOffset: number, scratch: PredictionScratch): void {
  const { rows, totals, sums, baseline } = scratch;
  const { functions, forest } = view;
  for (let done = 0; done < count; done += CHUNK) {
    const chunk = Math.min(CHUNK, count - done);
    for (let r = 0; r < chunk; r++) {
      const offset = r * ROW_WIDTH;
      copySituation(view, situations, rowOffset + (done + r) * SITUATION_WIDTH, rows, offset);
      estimatePhases(view, rows, offset, baseline);
      totals[r] = completeRow(view, rows, offset, baseline.estimate);
    }
    sumTrees(forest, rows, ROW_WIDTH, chunk, sums);
    const trees = forest.treeCount;
    for (let r = 0; r < chunk; r++) {
      const offset = r * ROW_WIDTH;
      const f = (rows[offset + COLUMN.functionIndex] as number) * FUNCTION_STRIDE;
      const correction = trees > 0 ? (sums[r] as number) / trees : 0;
      const baselineLog = totals[r] as number;
      const bytes = (rows[offset + COLUMN.inputBytes] as number) + (rows[offset + COLUMN.payloadBytes] as number);
      const mean = Math.exp(mixMedians(functions, f, rows[offset + COLUMN.startState] as number, bytes, baselineLog + correction + (functions[f + F_LEVEL] as number), factorOf(rows, offset, baselineLog)));
      const at = outOffset + done + r;
      out.meanMs[at] = mean;
      out.spreadMs[at] = mean * (functions[f + F_SPREAD] as number);
      out.p95Ms[at] = mean * Math.exp(functions[f + F_Q95] as number);
      out.p99Ms[at] = mean * Math.exp(functions[f + F_Q99] as number);
    }
  }
}
