/**
 * Reads the proto files of this project for the reference page: services, methods, messages, fields and enums with their comments.
 * No parser of the language: it knows the form that buf's lint enforces here (one declaration a line, comments above).
 */

/** A documented name. */
interface Documented {
  readonly name: string;
  readonly doc: string;
}

export interface ProtoMethod extends Documented {
  readonly request: string;
  readonly response: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}

export interface ProtoService extends Documented {
  readonly methods: readonly ProtoMethod[];
}

export interface ProtoField extends Documented {
  readonly type: string;
  readonly number: number;
  /** Name of the oneof it belongs to; '' if none. */
  readonly oneof: string;
}

export interface ProtoMessage extends Documented {
  readonly fields: readonly ProtoField[];
}

export interface ProtoEnum extends Documented {
  readonly values: readonly (Documented & { readonly number: number })[];
}

/** One file. */
export interface ProtoFile {
  /** The comment above `package`. */
  readonly doc: string;
  readonly services: readonly ProtoService[];
  readonly messages: readonly ProtoMessage[];
  readonly enums: readonly ProtoEnum[];
}

const RPC = /^rpc (\w+)\((stream )?([\w.]+)\) returns \((stream )?([\w.]+)\)/;
const FIELD = /^((?:repeated |optional )?(?:map<[^>]+>|[\w.]+)) (\w+) = (\d+)/;
const VALUE = /^(\w+) = (\d+)/;
const BLOCK = /^(service|message|enum|oneof) (\w+) \{(\})?$/;

/** Parses a file; throws for a line that it does not know, so that nothing is left out in silence. */
export function parseProto(text: string): ProtoFile {
  let doc = '';
  const services: (ProtoService & { methods: ProtoMethod[] })[] = [];
  const messages: (ProtoMessage & { fields: ProtoField[] })[] = [];
  const enums: (ProtoEnum & { values: (Documented & { number: number })[] })[] = [];
  const open: { kind: string; name: string }[] = [];
  let comment: string[] = [];
  const takeComment = (): string => {
    const taken = comment.join(' ');
    comment = [];
    return taken;
  };
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line.startsWith('//')) {
      comment.push(line.slice(2).trim());
      continue;
    }
    if (line === '') {
      comment = [];
      continue;
    }
    if (line.startsWith('package ')) {
      doc = takeComment();
      continue;
    }
    if (line === '}') {
      open.pop();
      continue;
    }
    const inside = open.at(-1);
    const block = BLOCK.exec(line);
    if (block !== null) {
      const [, kind = '', name = '', closed] = block;
      const described = takeComment();
      if (kind === 'service') services.push({ name, doc: described, methods: [] });
      else if (kind === 'message') messages.push({ name, doc: described, fields: [] });
      else if (kind === 'enum') enums.push({ name, doc: described, values: [] });
      if (closed === undefined) open.push({ kind, name });
      continue;
    }
    if (inside === undefined) {
      if (/^(syntax|import|option) /.test(line)) continue;
      throw new Error(`not understood: ${line}`);
    }
    const rpc = RPC.exec(line);
    const field = FIELD.exec(line);
    const value = VALUE.exec(line);
    if (inside.kind === 'service' && rpc !== null) {
      const [, name = '', requestStream, request = '', responseStream, response = ''] = rpc;
      services.at(-1)?.methods.push({ name, doc: takeComment(), request, response, requestStream: requestStream !== undefined, responseStream: responseStream !== undefined });
    } else if (inside.kind === 'enum' && value !== null) {
      enums.at(-1)?.values.push({ name: value[1] ?? '', number: Number(value[2]), doc: takeComment() });
    } else if ((inside.kind === 'message' || inside.kind === 'oneof') && field !== null) {
      messages.at(-1)?.fields.push({ type: field[1] ?? '', name: field[2] ?? '', number: Number(field[3]), doc: takeComment(), oneof: inside.kind === 'oneof' ? inside.name : '' });
    } else if (!/^(reserved|option) /.test(line)) throw new Error(`not understood in ${inside.kind} ${inside.name}: ${line}`);
  }
  return { doc, services, messages, enums };
}
