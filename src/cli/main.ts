#!/usr/bin/env node
/**
 * The entry of the command line. Checks the version of Node before anything else is loaded, because an older one fails
 * on the rest with messages that help nobody.
 */
import nodeModule from 'node:module';
import { fileURLToPath } from 'node:url';

const MINIMUM = [22, 18] as const;

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < MINIMUM[0] || (major === MINIMUM[0] && minor < MINIMUM[1])) {
  process.stderr.write(
    `metronome needs Node ${MINIMUM.join('.')} or newer; this is ${process.versions.node} (${process.execPath}).\n` +
      'The right one comes with the project: run through npm, for example "npm run -s metronome -- status".\n',
  );
  process.exit(1);
}

// Stripping the types of all files takes half of the start; the result is kept where other tools keep such things.
if (import.meta.url.endsWith('.ts')) nodeModule.enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/metronome/compiled', import.meta.url)));

const { runProcess } = await import('./run-process.ts');
await runProcess();
