/** Tells the scheduler where this agent listens, again and again until its streams are open, and whenever they are gone. */
import { MetronomeError } from '../core/errors.ts';
import type { RegisterNodeRequest, RegisterNodeResponse } from '../rpc/gen/metronome/v1/node.ts';
import type { AgentLog } from './agent-options.ts';

/** Options of the loop. */
export interface RegistrationOptions {
  readonly request: RegisterNodeRequest;
  readonly register: (request: RegisterNodeRequest, signal: AbortSignal) => Promise<RegisterNodeResponse>;
  /** Whether the scheduler's streams are open. */
  readonly isConnected: () => boolean;
  readonly onRegistered: (response: RegisterNodeResponse) => void;
  readonly log: AgentLog;
}

/** A loop that runs. */
export interface Registration {
  /**
   * The outcome of the first attempt: resolves when the scheduler answered or could not be reached (the loop goes on),
   * rejects with NODE_NAME_TAKEN when another living agent has the name (the loop has ended).
   */
  readonly first: Promise<void>;
  /** A stream went: look at once whether to register again. */
  wake(): void;
  stop(): void;
}

const FIRST_BACKOFF_MS = 100;
const LAST_BACKOFF_MS = 1_000;
/** How long the scheduler may take to open its streams before it is told again. */
const GRACE_MS = 500;

/** Starts the loop. */
export function startRegistration(options: RegistrationOptions): Registration {
  const { request, log } = options;
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let backoffMs = FIRST_BACKOFF_MS;
  let isUnderWay = false;
  let isFirst = true;
  let resolveFirst = (): void => {};
  let rejectFirst = (_error: MetronomeError): void => {};
  const first = new Promise<void>((resolve, reject) => {
    resolveFirst = resolve;
    rejectFirst = reject;
  });
  first.catch(() => {}); // whoever started us may not have come to wait yet

  const again = (afterMs: number): void => {
    clearTimeout(timer);
    if (!controller.signal.aborted) timer = setTimeout(() => void attempt(), afterMs);
  };
  const attempt = async (): Promise<void> => {
    if (isUnderWay || controller.signal.aborted) return;
    if (options.isConnected()) {
      backoffMs = FIRST_BACKOFF_MS;
      return;
    }
    isUnderWay = true;
    try {
      const response = await options.register(request, controller.signal);
      log.info({ node: request.name, address: request.address }, 'node.registered');
      options.onRegistered(response);
      backoffMs = FIRST_BACKOFF_MS;
      again(GRACE_MS);
    } catch (thrown) {
      if (controller.signal.aborted) return;
      const error = MetronomeError.from(thrown);
      if (isFirst && error.code === 'NODE_NAME_TAKEN') {
        controller.abort();
        rejectFirst(error);
        return;
      }
      // The first few refusals are the rule when agent and scheduler start together.
      log.warn({ node: request.name, code: error.code, error: error.message, retryMs: Math.round(backoffMs) }, 'node.registerFailed');
      // Jitter: agents that lost the same scheduler must not come back all at once.
      again(backoffMs * (0.5 + Math.random() / 2));
      backoffMs = Math.min(LAST_BACKOFF_MS, backoffMs * 2);
    } finally {
      isUnderWay = false;
      isFirst = false;
      resolveFirst();
    }
  };
  void attempt();
  return {
    first,
    wake: () => again(0),
    stop() {
      controller.abort();
      clearTimeout(timer);
      resolveFirst();
    },
  };
}
