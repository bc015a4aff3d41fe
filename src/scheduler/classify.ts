/**
 * Classification (Algorithm 1, line 4): every ready node is local or fallback for this invocation at this moment, as a
 * degree. Fills the candidate table that predictor and policy work on; one pass over all nodes, or over those that the indexes name.
 */
import type { Invocation } from '../core/invocation.ts';
import { NO_ZYGOTE } from '../core/zygote-distance.ts';
import type { Candidates } from '../policy/policy.ts';
import { COLD, PACKAGES, WARM, ZYGOTE, createPredictionRows, type Predictor } from '../predictor/predictor.ts';
import { CandidateIndex } from './candidate-index.ts';
import { READY, type ClusterView } from './cluster-view.ts';
import { BUSY, IDLE, PACKAGE_BYTES_HERE, ZYGOTE_DISTANCE, type FunctionEntry } from './function-table.ts';
import type { ObjectDirectory } from './object-directory.ts';

/** Bits of Candidates.kinds. */
const HAS_DATA = 1, IS_WARM = 2, HAS_PACKAGES = 4;

/** An empty table for up to `maxNodes` candidates. */
export function createCandidates(maxNodes: number): Candidates {
  return {
    ...createPredictionRows(maxNodes),
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
  /** Fills `out` with all ready nodes, or with those of them that the indexes name. */
  classify(invocation: Invocation, entry: FunctionEntry, nowMs: number, out: Candidates, isIndexed?: boolean): void;
  /** Fills `out` with this one node, ready or not. */
  classifyOne(invocation: Invocation, entry: FunctionEntry, node: number, nowMs: number, out: Candidates): void;
}

/** Holders of one input that are looked at when candidates come from indexes. */
const MAX_HOLDERS = 256;

export function createClassifier(cluster: ClusterView, objects: ObjectDirectory, predictor: Predictor, localityThreshold: number, candidateLimit = 64): Classifier {
  const index = new CandidateIndex(cluster, candidateLimit);
  const onNode = new Float64Array(cluster.maxNodes);
  const touched: number[] = [];
  const note = (node: number, sizeBytes: number): void => {
    if (onNode[node] === 0) touched.push(node);
    onNode[node] = (onNode[node] as number) + sizeBytes;
  };
  const initialiseMs = new Float64Array(5);

  const prepare = (invocation: Invocation, entry: FunctionEntry, start = 0, most = Infinity): void => {
    for (let i = 0; i < invocation.inputs.length; i++) objects.forHolders(invocation.inputs[i]!, note, start, most);
    for (let state = COLD; state <= WARM; state++) initialiseMs[state] = predictor.initialiseMs(entry.index, state);
  };
  const clean = (): void => {
    for (let i = 0; i < touched.length; i++) onNode[touched[i] as number] = 0;
    touched.length = 0;
  };
  /**
   * Fills rows for the nodes from … to − 1, or for the ones that stand there in `list`, and returns how many. One flat loop over hoisted arrays: it
   * is what a decision costs at a hundred nodes.
   */
  const fill = (invocation: Invocation, entry: FunctionEntry, list: Int32Array | undefined, from: number, to: number, onlyReady: boolean, nowMs: number, out: Candidates, keyNode: number, known: boolean): number => {
    const { status, slots, used, refusesUntilMs } = cluster;
    const { rows: here, installed, bare, bareDistance, packageBytes, unable } = entry;
    const { values } = here, { values: installedOn } = installed;
    const { inputBytes } = invocation;
    const { node: nodes, startState, zygoteDistance: distances, missingBytes, local, degree, degreeData, degreeInfrastructure, room: rooms, load, kinds } = out;
    const coldMs = initialiseMs[COLD] as number, zygoteMs = initialiseMs[ZYGOTE] as number, packagesMs = initialiseMs[PACKAGES] as number, importsMs = packagesMs - zygoteMs;
    // What installing takes beyond a start with packages, for each byte of them: a node that has some is nearer than one that has none.
    const savedPerByte = packageBytes > 0 && coldMs > packagesMs ? (coldMs - packagesMs) / packageBytes : 0;
    let row = 0;
    for (let i = from; i < to; i++) {
      const node = list === undefined ? i : (list[i] as number);
      const isReady = status[node] === READY && unable[node] !== 1;
      if (onlyReady && !isReady) continue;
      const slotCount = slots[node] as number, usedCount = used[node] as number;
      const room = !isReady || (refusesUntilMs[node] as number) > nowMs ? 0 : slotCount - usedCount;
      const at = here.place(node);
      const idleCount = values[at + IDLE] as number;
      const hasPackages = installedOn[installed.place(node)] === 1;
      // On a full node a busy sandbox counts as warm: the slot that frees is likely its own, and whoever waits is checked again then.
      const isWarm = idleCount > 0 || (room <= 0 && (values[at + BUSY] as number) > 0);
      let distance = values[at + ZYGOTE_DISTANCE] as number;
      if (bareDistance < distance && bare[node] === 1) distance = bareDistance;
      // A zygote is of use where the packages are: installing takes so much longer that nothing else matters.
      const state = isWarm ? WARM : !hasPackages ? COLD : distance < NO_ZYGOTE ? ZYGOTE : PACKAGES;
      const savedInitMs = state === COLD ? savedPerByte * Math.min(packageBytes, values[at + PACKAGE_BYTES_HERE] as number) : coldMs - (state === ZYGOTE ? zygoteMs + distance * importsMs : (initialiseMs[state] as number));
      let held = 0, savedTransferMs = 0, totalMs = coldMs;
      if (inputBytes > 0) {
        held = onNode[node] as number;
        const bandwidth = predictor.bytesPerMs(node);
        savedTransferMs = held / bandwidth;
        totalMs += inputBytes / bandwidth;
      }
      const byData = totalMs > 0 ? savedTransferMs / totalMs : 0;
      const byInfrastructure = totalMs > 0 && savedInitMs > 0 ? savedInitMs / totalMs : 0;
      nodes[row] = node;
      startState[row] = state;
      distances[row] = isWarm ? 0 : state === ZYGOTE ? distance : NO_ZYGOTE;
      missingBytes[row] = inputBytes - held;
      rooms[row] = room;
      load[row] = slotCount > 0 ? usedCount / slotCount : 1;
      degree[row] = byData + byInfrastructure;
      degreeData[row] = byData;
      degreeInfrastructure[row] = byInfrastructure;
      local[row] = (known && byData + byInfrastructure >= localityThreshold) || node === keyNode ? 1 : 0;
      kinds[row] = (held > 0 ? HAS_DATA : 0) | (idleCount > 0 ? IS_WARM : 0) | (hasPackages ? HAS_PACKAGES : 0);
      row++;
    }
    return row;
  };
  const keyNodeOf = (invocation: Invocation, entry: FunctionEntry): number => (invocation.localityKey === '' ? -1 : (entry.keyNodes?.get(invocation.localityKey) ?? -1));

  return {
    classify(invocation, entry, nowMs, out, isIndexed = false) {
      const keyNode = keyNodeOf(invocation, entry);
      // Without history and without inputs nothing is known that could make a node local.
      const known = invocation.inputs.length > 0 || predictor.observations(entry.index) > 0;
      if (isIndexed) {
        const start = Math.imul(invocation.seq, 0x9e37_79b1) >>> 1;
        prepare(invocation, entry, start, MAX_HOLDERS);
        index.gather({ entry, nowMs, start, keyNode, target: invocation.target, holders: touched, heldBytes: onNode });
        out.count = fill(invocation, entry, index.nodes, 0, index.count, true, nowMs, out, keyNode, known);
      } else {
        prepare(invocation, entry);
        out.count = fill(invocation, entry, undefined, 0, cluster.count, true, nowMs, out, keyNode, known);
      }
      clean();
    },
    classifyOne(invocation, entry, node, nowMs, out) {
      prepare(invocation, entry);
      out.count = fill(invocation, entry, undefined, node, node + 1, false, nowMs, out, keyNodeOf(invocation, entry), true);
      clean();
    },
  };
}
