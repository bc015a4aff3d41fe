/** Reads a recording block by block. What is torn at its end is told and skipped; damage is an error that names file and place. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { MetronomeError } from '../core/errors.ts';
import { damaged, decodeBlock, decodeHead, type RecordingHead, type StoredBlock } from './format.ts';
import { findRecording, segmentsOf } from './recording-folder.ts';

/** A block that was not written to its end. */
export interface TornEnd {
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

/** A recording that can be read, any number of times. */
export interface RecordingReader {
  readonly folder: string;
  /** Further recordings beside it that were not meant. */
  readonly others: number;
  readonly head: RecordingHead;
  readonly segments: number;
  /** Segments before them that were removed (recording.onFull: rotate); 0: it is there from its beginning. */
  readonly removedSegments: number;
  /** Known after all blocks were read once. */
  readonly torn: TornEnd | undefined;
  /** Bytes of its files as far as they were read. */
  readonly bytes: number;
  blocks(): Generator<StoredBlock, void, undefined>;
}

/** Opens the recording in a folder, or the newest one under it. Throws INVALID_REQUEST or STATE_CORRUPT. */
export function openRecording(path: string): RecordingReader {
  const { folder, others } = findRecording(path);
  const files = segmentsOf(folder);
  const load = (file: string): Buffer => {
    try {
      return readFileSync(file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new MetronomeError('STATE_CORRUPT', `${file} was removed while it was to be read: the recording rotates (recording.onFull). Read it again, or a copy of its folder.`, { cause: error });
      throw new MetronomeError('STATE_CORRUPT', `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}.`, { cause: error });
    }
  };
  const first = files[0] as string; // findRecording saw one
  const { head } = decodeHead(load(first), first);
  const firstNumber = Number(basename(first, '.mrec'));
  // Where nothing is known of what came before, the segments are missing.
  const removedSegments = head.context === undefined ? 0 : firstNumber - 1;
  let torn: TornEnd | undefined;
  let bytes = 0;
  return {
    folder, others, head, segments: files.length, removedSegments,
    get torn() {
      return torn;
    },
    get bytes() {
      return bytes;
    },
    *blocks() {
      let expected = 0;
      bytes = 0;
      for (const [index, file] of files.entries()) {
        if (Number(basename(file, '.mrec')) !== removedSegments + index + 1) throw damaged(file, 0, `segment ${removedSegments + index + 1} of the recording is missing`);
        const content = load(file);
        bytes += content.length;
        const isLast = index === files.length - 1;
        if (isLast && index > 0 && content.length === 0) {
          torn = { file, offset: 0, bytes: 0 };
          return;
        }
        let { offset } = decodeHead(content, file);
        for (;;) {
          const found = decodeBlock(content, offset, file, isLast);
          if (found.kind === 'end') break;
          if (found.kind === 'torn') {
            torn = { file, offset: found.offset, bytes: found.bytes };
            return;
          }
          const { block, next } = found;
          // Entries left out at a gap count too; the gap comes first in its block.
          if (block.firstEntry < expected) throw damaged(file, offset, `the block begins with entry ${block.firstEntry}, expected was ${expected} or a later one`);
          expected = block.firstEntry + block.entries;
          yield block;
          offset = next;
        }
      }
    },
  };
}
