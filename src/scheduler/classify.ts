/**
 * Classification (Algorithm 1, line 4): every ready node is local or fallback for this invocation at this moment, as a
 * degree. Fills the candidate table that predictor and policy work on; one pass over the nodes, no allocation.
 */
import type { Invocation } from '../core/invocation.ts';
import type { Candidates } from '../policy/policy.ts';
import { COLD, PACKAGES, WARM, ZYGOTE, type Predictor } from '../predictor/predictor.ts';
import { READY, type ClusterView } from './cluster-view.ts';
import type { FunctionEntry } from './function-table.ts';
import type { ObjectDirectory } from './object-directory.ts';

/** Bits of Candidates.kinds. */
const HAS_DATA = 1, IS_WARM = 2, HAS_PACKAGES = 4;

/** An empty table for up to `maxNodes` candidates. */
export function createCandidates(maxNodes: number): Candidates {
  return {
    count: 0,
    node: new Int32Array(maxNodes),
    startState: new Uint8Array(maxNodes),
    missingBytes: new Float64Array(maxNodes),
    meanMs: new Float64Array(maxNodes),
    spreadMs: new Float64Array(maxNodes),
    local: new Uint8Array(maxNodes),
    degree: new Float64Array(maxNodes),
    degreeData: new Float64Array(maxNodes),
    degreeInfrastructure: new Float64Array(maxNodes),
    room: new Int32Array(maxNodes),
    load: new Float64Array(maxNodes),
    kinds: new Uint8Array(maxNodes),
  };
}

/** Classifies nodes. Holds scratch space, so one per scheduler. */
export interface Classifier {
  /** Fills `out` with all ready nodes. */
  classify(invocation: Invocation, entry: FunctionEntry, nowMs: number, out: Candidates): void;
  /** Fills `out` with this one node, ready or not. */
  classifyOne(invocation: Invocation, entry: FunctionEntry, node: number, nowMs: number, out: Candidates): void;
}

export function createClassifier(cluster: ClusterView, objects: ObjectDirectory, predictor: Predictor, localityThreshold: number): Classifier {
  const onNode = new Float64Array(cluster.maxNodes);
  const touched: number[] = [];
  const note = (node: number, sizeBytes: number): void => {
    if (onNode[node] === 0) touched.push(node);
    onNode[node] = (onNode[node] as number) + sizeBytes;
  };
  const initialiseMs = new Float64Array(5);

  const prepare = (invocation: Invocation, entry: FunctionEntry): void => {
    for (let i = 0; i < invocation.inputs.length; i++) objects.forHolders(invocation.inputs[i]!, note);
    for (let state = COLD; state <= WARM; state++) initialiseMs[state] = predictor.initialiseMs(entry.index, state);
  };
  const clean = (): void => {
    for (let i = 0; i < touched.length; i++) onNode[touched[i] as number] = 0;
    touched.length = 0;
  };
  const fill = (invocation: Invocation, entry: FunctionEntry, node: number, nowMs: number, out: Candidates, row: number, keyNode: number, known: boolean): void => {
    const room = cluster.room(node, nowMs);
    const state = entry.startState(node, room > 0);
    const held = onNode[node] as number;
    const coldMs = initialiseMs[COLD] as number;
    const savedInitMs = Math.max(0, coldMs - (initialiseMs[state] as number));
    let savedTransferMs = 0, totalMs = coldMs;
    if (invocation.inputBytes > 0) {
      const bandwidth = predictor.bytesPerMs(node);
      savedTransferMs = held / bandwidth;
      totalMs += invocation.inputBytes / bandwidth;
    }
    const degreeData = totalMs > 0 ? savedTransferMs / totalMs : 0;
    const degreeInfrastructure = totalMs > 0 ? savedInitMs / totalMs : 0;
    const degree = degreeData + degreeInfrastructure;
    const slots = cluster.slots[node] as number;
    out.node[row] = node;
    out.startState[row] = state;
    out.missingBytes[row] = invocation.inputBytes - held;
    out.room[row] = room;
    out.load[row] = slots > 0 ? (cluster.used[node] as number) / slots : 1;
    out.degree[row] = degree;
    out.degreeData[row] = degreeData;
    out.degreeInfrastructure[row] = degreeInfrastructure;
    out.local[row] = (known && degree >= localityThreshold) || node === keyNode ? 1 : 0;
    out.kinds[row] = (held > 0 ? HAS_DATA : 0) | ((entry.idle[node] as number) > 0 ? IS_WARM : 0) | (state === ZYGOTE || state === PACKAGES || entry.packages[node] === 1 ? HAS_PACKAGES : 0);
  };
  const keyNodeOf = (invocation: Invocation, entry: FunctionEntry): number => (invocation.localityKey === '' ? -1 : (entry.keyNodes.get(invocation.localityKey) ?? -1));

  return {
    classify(invocation, entry, nowMs, out) {
      prepare(invocation, entry);
      const keyNode = keyNodeOf(invocation, entry);
      // Without history and without inputs nothing is known that could make a node local.
      const known = invocation.inputs.length > 0 || predictor.observations(entry.index) > 0;
      const { status } = cluster;
      let row = 0;
      for (let node = 0; node < cluster.count; node++) {
        if (status[node] !== READY) continue;
        fill(invocation, entry, node, nowMs, out, row++, keyNode, known);
      }
      out.count = row;
      clean();
    },
    classifyOne(invocation, entry, node, nowMs, out) {
      prepare(invocation, entry);
      fill(invocation, entry, node, nowMs, out, 0, keyNodeOf(invocation, entry), true);
      out.count = 1;
      clean();
    },
  };
}
