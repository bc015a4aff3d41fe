/**
 * For experiments: a classifier that does not tell one kind of locality. Nodes then look alike in that respect, to the degree as well as to the
 * predictions: every node seems to lack all input data, or to have a warm sandbox. What the ablation of the evaluation shows is what that kind is worth.
 */
import type { Invocation } from '../core/invocation.ts';
import type { Candidates } from '../policy/policy.ts';
import { WARM } from '../predictor/predictor.ts';
import type { Classifier } from './classify.ts';
import type { BlindTo } from './experiments.ts';
import type { FunctionEntry } from './function-table.ts';

/** `classifier` without sight of that kind of locality. `localityThreshold`: as given to it. */
export function createBlindClassifier(classifier: Classifier, blindTo: BlindTo, localityThreshold: number): Classifier {
  if (blindTo === 'nothing') return classifier;
  const forget = (invocation: Invocation, entry: FunctionEntry, out: Candidates): void => {
    const keyNode = invocation.localityKey === '' ? -1 : (entry.keyNodes?.get(invocation.localityKey) ?? -1);
    const { node, startState, zygoteDistance, missingBytes, local, degree, degreeData, degreeInfrastructure } = out;
    for (let row = 0; row < out.count; row++) {
      if (blindTo === 'data') {
        missingBytes[row] = invocation.inputBytes;
        degreeData[row] = 0;
      } else {
        startState[row] = WARM;
        zygoteDistance[row] = 0;
        degreeInfrastructure[row] = 0;
      }
      const left = (degree[row] = (degreeData[row] as number) + (degreeInfrastructure[row] as number));
      if (left < localityThreshold && node[row] !== keyNode) local[row] = 0;
    }
  };
  return {
    classify(invocation, entry, nowMs, out, isIndexed) {
      classifier.classify(invocation, entry, nowMs, out, isIndexed);
      forget(invocation, entry, out);
    },
    classifyOne(invocation, entry, node, nowMs, out) {
      classifier.classifyOne(invocation, entry, node, nowMs, out);
      forget(invocation, entry, out);
    },
  };
}
