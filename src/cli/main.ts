#!/usr/bin/env node
/**
 * The entry of the command line. Checks the version of Node before anything else is loaded, because an older one fails
 * on the rest with messages that help nobody.
 */
const MINIMUM = [22, 18] as const;

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < MINIMUM[0] || (major === MINIMUM[0] && minor < MINIMUM[1])) {
  process.stderr.write(
    `metronome needs Node ${MINIMUM.join('.')} or newer; this is ${process.versions.node} (${process.execPath}).\n` +
      'The right one comes with the project: run through npm, for example "npm run -s metronome -- status".\n',
  );
  process.exit(1);
}

const { runProcess } = await import('./run-process.ts');
await runProcess();
