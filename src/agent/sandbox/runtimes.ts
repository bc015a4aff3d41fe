/** How the runtimes of functions are started. What runs in them stands in shims/, plain JavaScript and Python without dependencies. */
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_SHIM = fileURLToPath(new URL('./shims/node-shim.mjs', import.meta.url));
const PYTHON_SHIM = fileURLToPath(new URL('./shims/python-shim.py', import.meta.url));
const PYTHON_ZYGOTE = fileURLToPath(new URL('./shims/python-zygote.py', import.meta.url));

/** Folder of what runs inside sandboxes. */
export const SHIMS_DIR = dirname(NODE_SHIM);

const READ_AT_START = /^(NODE_|LD_|PYTHON|MALLOC_|GLIBC_|UV_|OPENBLAS_|OMP_|MKL_|NUMEXPR_|BLIS_|GOTO_|LC_|LANG$|SSL_CERT_|TZDIR$|DEBUG$)/;

/** Whether runtimes, or libraries while they are imported, read this variable: afterwards it cannot be given to them. */
export function isReadAtStart(name: string): boolean {
  return READ_AT_START.test(name);
}

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
