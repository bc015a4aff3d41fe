/** Puts files into the cluster as objects and reads objects back, over HTTP: from and to the nodes, or through the gateway. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { request } from 'undici';
import { ERRORS, MetronomeError, isErrorCode } from '../core/errors.ts';
import type { SchedulerClient } from '../rpc/client.ts';
import { ObjectRef } from '../rpc/gen/metronome/v1/common.ts';
import { NodeStatus, type Node } from '../rpc/gen/metronome/v1/node.ts';

/** Where objects go to. */
export interface ObjectDoor {
  readonly client: SchedulerClient;
  /** Base URL of the gateway's HTTP door; undefined: straight to a node. */
  readonly gatewayUrl?: string | undefined;
  /** Node that shall hold it; undefined: one with room. */
  readonly node?: string | undefined;
  readonly signal?: AbortSignal;
}

/** Stores a file; INVALID_REQUEST if it cannot be read, NO_NODES if nobody can take it. */
export async function putFile(door: ObjectDoor, path: string, cwd: string, name = basename(path)): Promise<ObjectRef> {
  const full = resolve(cwd, path);
  const found = await stat(full).catch((cause: unknown) => {
    throw new MetronomeError('INVALID_REQUEST', `The file "${path}" cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  });
  if (!found.isFile()) throw new MetronomeError('INVALID_REQUEST', `"${path}" is not a file.`);
  return putStream(door, () => createReadStream(full, { highWaterMark: 1 << 20 }), found.size, name);
}

/** Stores so many bytes. NO_NODES if nobody can take them. */
export async function putStream(door: ObjectDoor, open: () => Readable, sizeBytes: number, name: string): Promise<ObjectRef> {
  const node = door.gatewayUrl === undefined ? chooseNode(await nodesWithData(door, [NodeStatus.READY]), door.node) : undefined;
  const base = door.gatewayUrl ?? node?.dataUrl ?? '';
  const url = new URL('objects', base.endsWith('/') ? base : `${base}/`);
  url.searchParams.set('name', name);
  if (door.gatewayUrl !== undefined && door.node !== undefined) url.searchParams.set('node', door.node);
  const answer = await send(url, { method: 'POST', body: open(), headers: { 'content-type': 'application/octet-stream', 'content-length': String(sizeBytes) }, ...signalOf(door) });
  const body: unknown = await answer.body.json().catch(() => undefined);
  if (answer.statusCode >= 300) throw errorOf(url, answer.statusCode, body);
  const reference = ObjectRef.fromJSON(body);
  if (node !== undefined && !reference.holders.includes(node.name)) reference.holders.unshift(node.name);
  return reference;
}

/** The bytes of an object from whoever holds it, also from nodes that get no work at the moment. OBJECT_NOT_FOUND when nobody does, UNAVAILABLE when one that might cannot be reached. */
export async function openObject(door: ObjectDoor, wanted: ObjectRef): Promise<{ readonly body: Readable; readonly node: string }> {
  const nodes = await nodesWithData(door, [NodeStatus.READY, NodeStatus.STALE, NodeStatus.DRAINING]);
  // The holders first; they are advisory, so the others are asked as well.
  const rank = (node: Node): number => (wanted.holders.includes(node.name) ? 2 : 0) + (node.status === NodeStatus.READY ? 1 : 0);
  const order = [...nodes].sort((a, b) => rank(b) - rank(a));
  let unreachable: MetronomeError | undefined;
  for (const node of order) {
    const url = new URL(`objects/${encodeURIComponent(wanted.id)}`, node.dataUrl.endsWith('/') ? node.dataUrl : `${node.dataUrl}/`);
    const answer = await send(url, { method: 'GET', ...signalOf(door) }).catch((error: unknown) => {
      if (!(error instanceof MetronomeError) || error.code !== 'UNAVAILABLE') throw error;
      unreachable ??= error;
    });
    if (answer === undefined) continue;
    if (answer.statusCode === 200) return { body: answer.body, node: node.name };
    const body: unknown = await answer.body.json().catch(() => undefined);
    if (answer.statusCode !== 404) throw errorOf(url, answer.statusCode, body);
  }
  throw unreachable ?? new MetronomeError('OBJECT_NOT_FOUND', `No node holds the object "${wanted.id}" (asked: ${order.map((node) => node.name).join(', ') || 'none'}).`);
}

/** A reference as JSON, or a bare id. INVALID_REQUEST for anything else. */
export function parseReference(text: string): ObjectRef {
  if (!text.trimStart().startsWith('{')) {
    if (!/^[A-Za-z0-9._-]{1,128}$/.test(text)) throw new MetronomeError('INVALID_REQUEST', `"${text}" is neither the id nor the reference of an object.`);
    return ObjectRef.fromPartial({ id: text });
  }
  try {
    const reference = ObjectRef.fromJSON(JSON.parse(text));
    if (reference.id === '') throw new Error('it has no id');
    return reference;
  } catch (cause) {
    throw new MetronomeError('INVALID_REQUEST', `"${text}" is not the reference of an object: ${cause instanceof Error ? cause.message : String(cause)}. It must be the JSON that "metronome object put" prints.`, { cause });
  }
}

async function nodesWithData(door: ObjectDoor, statuses: readonly NodeStatus[]): Promise<Node[]> {
  const { nodes } = await door.client.listNodes({}, signalOf(door));
  return nodes.filter((node) => statuses.includes(node.status) && node.dataUrl !== '');
}

function chooseNode(nodes: readonly Node[], wanted: string | undefined): Node {
  if (wanted !== undefined) {
    const named = nodes.find((node) => node.name === wanted);
    if (named === undefined) throw new MetronomeError('NODE_NOT_FOUND', `There is no ready node "${wanted}". Ready: ${nodes.map((node) => node.name).join(', ') || 'none'}.`);
    return named;
  }
  let best: Node | undefined;
  for (const node of nodes) {
    if (best === undefined || node.objectBytes < best.objectBytes) best = node;
  }
  if (best === undefined) throw new MetronomeError('NO_NODES', 'No node is ready to take an object.');
  return best;
}

type Answer = Awaited<ReturnType<typeof request>>;

async function send(url: URL, options: Parameters<typeof request>[1]): Promise<Answer> {
  try {
    return await request(url, options);
  } catch (cause) {
    if (options?.signal instanceof AbortSignal && options.signal.aborted) throw new MetronomeError('CANCELLED', 'The transfer was cancelled.', { cause });
    throw new MetronomeError('UNAVAILABLE', `${url.origin} cannot be reached: ${cause instanceof Error ? cause.message : String(cause)}. If the nodes cannot be reached from here, name the gateway with --via http://host:port.`, { cause });
  }
}

function signalOf(door: ObjectDoor): { signal?: AbortSignal } {
  return door.signal === undefined ? {} : { signal: door.signal };
}

function errorOf(url: URL, status: number, body: unknown): MetronomeError {
  if (typeof body === 'object' && body !== null && 'error' in body && typeof body.error === 'object' && body.error !== null) {
    const { code, message } = body.error as { readonly code?: unknown; readonly message?: unknown };
    if (typeof code === 'string' && isErrorCode(code)) return new MetronomeError(code, typeof message === 'string' ? message : ERRORS[code].meaning);
  }
  return new MetronomeError(status === 404 ? 'OBJECT_NOT_FOUND' : 'UNAVAILABLE', `${url.origin}${url.pathname} answered with status ${status}.`);
}
