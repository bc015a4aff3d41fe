/** How the runtimes of functions are started. What runs in them stands in shims/, plain JavaScript and Python without dependencies. */
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_SHIM = fileURLToPath(new URL('./shims/node-shim.mjs', import.meta.url));
const PYTHON_SHIM = fileURLToPath(new URL('./shims/python-shim.py', import.meta.url));
const PYTHON_ZYGOTE = fileURLToPath(new URL('./shims/python-zygote.py', import.meta.url));

/** Folder of what runs inside sandboxes. */
export const SHIMS_DIR = dirname(NODE_SHIM);

/** Arguments of a Node process whose functions may use so much memory. */
export function nodeArguments(memoryMb: number): string[] {
  return [`--max-old-space-size=${Math.max(memoryMb, 32)}`, NODE_SHIM];
}

/** Arguments of a Python process that is one sandbox. */
export function pythonArguments(): string[] {
  return ['-s', PYTHON_SHIM];
}

/** Arguments of a Python process that forks sandboxes. */
export function pythonZygoteArguments(): string[] {
  return ['-s', PYTHON_ZYGOTE];
}
