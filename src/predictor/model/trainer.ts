/**
 * What grows trees. A trainer makes one tree per call from a bag of rows, so that a call can be one task of a pool: the job is plain
 * arrays, the tree comes back in the flat layout, and the same job gives the same tree.
 */
import { MetronomeError } from '../../core/errors.ts';
import { MAX_COLUMNS, type FlatTree } from './flat-forest.ts';

/** The trainers by name. */
export const TRAINERS = ['extra-trees', 'ml-random-forest'] as const;
export type TrainerName = (typeof TRAINERS)[number];

/** One tree to be trained. */
export interface TreeJob {
  readonly trainer: TrainerName;
  readonly seed: number;
  /** Place of the tree in the forest. */
  readonly place: number;
  /** Numbers per row; row r begins at r × width. All finite. */
  readonly rows: Float64Array;
  readonly width: number;
  /** What is to be predicted, one number per row. */
  readonly targets: Float64Array;
  /** Columns before this one are never tested. */
  readonly firstColumn: number;
  readonly maxDepth: number;
  /** Rows that a leaf must hold at least. */
  readonly minLeaf: number;
  /** Nodes that the tree may have. */
  readonly maxNodes: number;
}

/** Grows one tree. Throws a MetronomeError for rows or targets that are not finite. */
export type Trainer = (job: TreeJob) => FlatTree;

/** Refuses a job that no trainer can make sense of. */
export function checkJob({ rows, width, targets, firstColumn }: TreeJob): void {
  if (targets.length === 0) throw new MetronomeError('INTERNAL', 'A tree cannot be trained without rows.');
  if (width > MAX_COLUMNS || firstColumn >= width || rows.length < targets.length * width) throw new MetronomeError('INTERNAL', `Rows of ${width} columns from ${firstColumn} on, ${rows.length} numbers for ${targets.length} rows: that is no training job.`);
  for (let i = 0; i < targets.length * width; i++) {
    if (!Number.isFinite(rows[i])) throw new MetronomeError('INTERNAL', `Column ${i % width} of row ${Math.floor(i / width)} is ${rows[i]}; the model learns from finite numbers only.`);
  }
  for (let i = 0; i < targets.length; i++) if (!Number.isFinite(targets[i])) throw new MetronomeError('INTERNAL', `The target of row ${i} is ${targets[i]}; the model learns from finite numbers only.`);
}
