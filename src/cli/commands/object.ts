/** `metronome object`: put files into the cluster as immutable objects, and read objects back. */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { MetronomeError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import { ObjectRef } from '../../rpc/gen/metronome/v1/common.ts';
import { withExamples } from '../arguments.ts';
import { withSession } from '../context.ts';
import { openObject, parseReference, putFile } from '../objects.ts';
import type { CliApp } from '../app.ts';

export function objectCommand(app: CliApp): Command {
  const group = new Command('object').description('put files into the cluster and get objects out');
  group.addCommand(withExamples(
    new Command('put').argument('<file>', 'the file').description('store a file as an object; prints its reference, which --input takes')
      .option('--name <name>', 'name for functions (default: the name of the file)')
      .option('--node <name>', 'node that shall hold it (default: the one that holds least)')
      .option('--via <url>', "the gateway's HTTP door, when the nodes cannot be reached from here")
      .action(app.action(async (file: string, options: { readonly name?: string; readonly node?: string; readonly via?: string }, command: Command) =>
        withSession(app, command, async ({ client, printer, signal }) => {
          const reference = await putFile({ client, gatewayUrl: options.via, node: options.node, signal }, file, app.io.cwd, options.name);
          printer.progress(`${reference.name} (${formatBytes(reference.sizeBytes)}) is on ${reference.holders.join(', ')}`);
          // One line, so that it fits into $(…).
          if (printer.isStructured) printer.structured(ObjectRef.toJSON(reference));
          else printer.text(`${JSON.stringify(ObjectRef.toJSON(reference))}\n`);
        }))),
    'metronome object put access.log', 'metronome invoke log-analysis --input "$(metronome object put access.log)"'));
  group.addCommand(withExamples(
    new Command('get').argument('<reference>', 'id or reference (JSON) of the object').description('write the bytes of an object to standard output or a file')
      .option('--out <file>', 'file to write to')
      .action(app.action(async (text: string, options: { readonly out?: string }, command: Command) =>
        withSession(app, command, async ({ client, printer, signal }) => {
          const wanted = parseReference(text);
          const { body, node } = await openObject({ client, signal }, wanted);
          const hash = createHash('sha256');
          const check = new Transform({
            transform(chunk: Buffer, _encoding, done) {
              hash.update(chunk);
              done(null, chunk);
            },
            flush(done) {
              const digest = hash.digest('hex');
              done(wanted.digest === '' || wanted.digest === digest ? null : new MetronomeError('OBJECT_CORRUPT', `The bytes of "${wanted.id}" from ${node} have the digest ${digest}, not ${wanted.digest}.`));
            },
          });
          if (options.out === undefined) await pipeline(body, check, async (chunks: AsyncIterable<Buffer>) => {
            for await (const chunk of chunks) app.io.out(chunk);
          });
          else {
            // Whole or not at all: a half file would look like the object.
            const target = resolve(app.io.cwd, options.out);
            const partial = `${target}.${process.pid}.part`;
            try {
              await pipeline(body, check, createWriteStream(partial));
              await rename(partial, target);
            } finally {
              await rm(partial, { force: true });
            }
            printer.progress(`${options.out}: written, from ${node}`);
          }
        }))),
    'metronome object get "$REFERENCE" --out part.log'));
  return group;
}
