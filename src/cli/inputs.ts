/** Inputs of an invocation from the command line: files are stored as objects first, references are taken as they are. */
import { formatBytes } from '../core/units.ts';
import type { ObjectRef } from '../rpc/gen/metronome/v1/common.ts';
import { parseReference, putFile, type ObjectDoor } from './objects.ts';

/** The references of all inputs, in order. */
export async function readInputs(door: ObjectDoor, inputs: readonly string[], cwd: string, progress: (line: string) => void): Promise<ObjectRef[]> {
  const references: ObjectRef[] = [];
  for (const input of inputs) {
    if (input.trimStart().startsWith('{')) {
      references.push(parseReference(input));
      continue;
    }
    const reference = await putFile(door, input, cwd);
    progress(`${input}: stored on ${reference.holders.join(', ')} (${formatBytes(reference.sizeBytes)})`);
    references.push(reference);
  }
  return references;
}
