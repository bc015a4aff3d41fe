/**
 * Writes docs/machines/<name>.md from the machines, or says which of them are out of date.
 * `npx node src/inspect/diagrams.ts` writes, with `--check` it only looks and exits with 1 on drift.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { AnyStateMachine } from 'xstate';
import { invocationMachine } from '../../machines/invocation.ts';
import { modelMachine } from '../../machines/model.ts';
import { nodeMachine } from '../../machines/node.ts';
import { sandboxMachine } from '../../machines/sandbox.ts';
import { workflowMachine } from '../../machines/workflow.ts';
import { toMachinePage } from './mermaid.ts';

/** Every machine with one sentence on what it is the life of. */
export const MACHINES: readonly { readonly machine: AnyStateMachine; readonly summary: string }[] = [
  { machine: invocationMachine, summary: 'The life of one request for one function, in the scheduler. Its states are the words of the API, the logs, the metrics and the page.' },
  { machine: nodeMachine, summary: 'The life of a node as the scheduler sees it. Only a ready node gets work.' },
  { machine: sandboxMachine, summary: 'The life of one sandbox of one function, in the agent. Its process may end in any state.' },
  { machine: workflowMachine, summary: 'The life of one run of a workflow, in the workflow runner.' },
  { machine: modelMachine, summary: 'The life of the prediction model, in the predictor. In every state somebody answers.' },
];

/** Where the pages are, of the project's own source tree. */
export const DIAGRAMS_DIR = fileURLToPath(new URL('../../docs/machines', import.meta.url));

/** Writes the pages that are out of date or missing into `dir`; with `check` it writes nothing. Returns their file names. */
export function writeDiagrams({ check, dir = DIAGRAMS_DIR }: { readonly check: boolean; readonly dir?: string }): string[] {
  const drifted: string[] = [];
  for (const { machine, summary } of MACHINES) {
    const file = `${machine.id}.md`;
    const page = toMachinePage(machine, summary);
    if (read(`${dir}/${file}`) === page) continue;
    drifted.push(file);
    if (check) continue;
    mkdirSync(dir, { recursive: true });
    writeFileSync(`${dir}/${file}`, page);
  }
  return drifted;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined; // not written yet
    throw error;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const check = process.argv.includes('--check');
  const drifted = writeDiagrams({ check });
  for (const file of drifted) process.stdout.write(`${check ? 'out of date' : 'wrote'}: docs/machines/${file}\n`);
  if (check && drifted.length > 0) process.exitCode = 1;
}
