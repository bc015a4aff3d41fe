/** The trainer of a job: what a pool task calls. */
import type { FlatTree } from './flat-forest.ts';
import { trainExtraTree } from './extra-trees.ts';
import { trainLibraryTree } from './library-trainer.ts';
import type { Trainer, TrainerName, TreeJob } from './trainer.ts';

const BY_NAME: Readonly<Record<TrainerName, Trainer>> = { 'extra-trees': trainExtraTree, 'ml-random-forest': trainLibraryTree };

/** Grows the tree of a job with the trainer that it names. */
export function trainTree(job: TreeJob): FlatTree {
  return BY_NAME[job.trainer](job);
}
