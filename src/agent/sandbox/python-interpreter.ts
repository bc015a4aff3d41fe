/** Finds the real Python interpreter once: `python3` on the PATH may be a version manager's shim that costs 50 ms at every start. */
import { execFile } from 'node:child_process';
import { MetronomeError } from '../../core/errors.ts';

/** A lookup that is made once and can be given up. */
export interface PythonLookup {
  /** Absolute path of the interpreter. Rejects with SANDBOX_FAILED if there is none. */
  find(): Promise<string>;
  /** Ends a lookup that is under way. */
  stop(): void;
}

const TIMEOUT_MS = 10_000;

/** Uses `configured` if given; otherwise asks python3 at the first call. A failed lookup is made again at the next call. */
export function createPythonLookup(configured: string | undefined): PythonLookup {
  const controller = new AbortController();
  let found: Promise<string> | undefined = configured === undefined ? undefined : Promise.resolve(configured);
  return {
    find() {
      if (found === undefined) {
        found = ask(controller.signal);
        found.catch(() => {
          found = undefined;
        });
      }
      return found;
    },
    stop: () => controller.abort(),
  };
}

function ask(signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('python3', ['-c', 'import sys; print(sys.executable)'], { signal, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' }, (error, stdout) => {
      const path = stdout.trim();
      if (error === null && path !== '') resolve(path);
      else reject(new MetronomeError('SANDBOX_FAILED', `This node has no Python 3 that works (${error?.message.trim() ?? 'python3 does not say where it is'}). Install python3 or run an agent elsewhere.`, { component: 'agent', cause: error }));
    });
  });
}
