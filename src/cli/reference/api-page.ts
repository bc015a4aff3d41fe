/** docs/reference/api.md: services, methods, messages and enums, from the proto files. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { GENERATED, code, markdownTable } from './markdown.ts';
import { parseProto, type ProtoFile } from './proto-file.ts';

/** What a caller reads first comes first. */
const ORDER = ['invoke', 'function', 'workflow', 'node', 'inspect', 'model', 'agent', 'common'];

export async function apiPage(protoDir: string): Promise<string> {
  const names = (await readdir(protoDir)).filter((name) => name.endsWith('.proto')).map((name) => name.replace(/\.proto$/, ''));
  const place = (name: string): number => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  names.sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
  const parts = await Promise.all(names.map(async (name) => filePart(name, parseProto(await readFile(join(protoDir, `${name}.proto`), 'utf8')))));
  return `# API

${GENERATED}

The gRPC contract, package \`metronome.v1\`, from \`proto/metronome/v1\`. The server offers reflection and health checks. Numbers without a value are 0,
texts without one are empty; over HTTP and in \`-o json\` the same messages appear as JSON in the mapping of protobuf.

${parts.join('\n')}`;
}

function filePart(name: string, file: ProtoFile): string {
  const out: string[] = [`## ${name}.proto\n`, `${file.doc}\n`];
  for (const service of file.services) {
    out.push(`### Service ${service.name}\n`, `${service.doc}\n`);
    out.push(`${markdownTable(['method', 'request', 'response', 'meaning'], service.methods.map((method) => [
      code(method.name), `${method.requestStream ? 'stream of ' : ''}${code(method.request)}`, `${method.responseStream ? 'stream of ' : ''}${code(method.response)}`, method.doc,
    ]))}\n`);
  }
  for (const message of file.messages) {
    out.push(`### ${message.name}\n`, `${message.doc}\n`);
    if (message.fields.length > 0) out.push(`${markdownTable(['field', 'type', 'no.', 'meaning'], message.fields.map((field) => [code(field.name), code(field.type), String(field.number), `${field.doc}${field.oneof === '' ? '' : ` (one of \`${field.oneof}\`)`}`]))}\n`);
  }
  for (const each of file.enums) {
    out.push(`### ${each.name}\n`, `${each.doc}\n`);
    out.push(`${markdownTable(['value', 'no.', 'meaning'], each.values.map((value) => [code(value.name), String(value.number), value.doc]))}\n`);
  }
  return out.join('\n');
}
