/** Transitions for one slow or fast reader: buffered with a bound, the oldest lost first, the losses counted. */
import type { MetronomeError } from '../core/errors.ts';
import type { Transition, WatchInvocationsRequest } from '../rpc/gen/metronome/v1/invoke.ts';
import type { LoopClient } from './loop-client.ts';
import { pump } from './pump.ts';

const MAX_BUFFERED = 10_000;
const MAX_BATCH = 1_000;

/**
 * Writes transitions until the signal aborts (resolves) or the watch fails (rejects). `missed` counts all that this
 * reader lost so far, here or in the loop.
 */
export async function followTransitions(
  loop: LoopClient,
  request: WatchInvocationsRequest,
  signal: AbortSignal,
  write: (transitions: Transition[], missed: number) => Promise<void>,
): Promise<void> {
  let buffered: Transition[] = [];
  let lostHere = 0;
  let lostInLoop = 0;
  let failure: MetronomeError | undefined;
  await pump(
    signal,
    (wake) => loop.watch(request, {
      transitions(transitions, missed) {
        lostInLoop = missed;
        for (const transition of transitions) buffered.push(transition);
        if (buffered.length > MAX_BUFFERED) {
          const lost = buffered.length - MAX_BUFFERED;
          buffered = buffered.slice(lost);
          lostHere += lost;
        }
        wake();
      },
      failed(error) {
        failure = error;
        wake();
      },
    }),
    () => {
      if (buffered.length > 0) return write(buffered.splice(0, MAX_BATCH), lostHere + lostInLoop);
      if (failure !== undefined) throw failure;
      return undefined;
    },
  );
}
