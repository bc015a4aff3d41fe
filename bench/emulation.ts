/**
 * Bench `emulation`: how true an emulated cluster is. Nodes as `metronome up --link --cpus` makes them, with plain programs in them: CPU that a
 * spinning process gets of its quota, on all nodes at once; rate of TCP from node to node, one pair and two pairs at once; set-up and removal.
 */
import { spawn } from 'node:child_process';
import { availableParallelism, tmpdir } from 'node:os';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openEmulation, type Emulation } from '../src/cli/cluster/emulation/emulation.ts';
import { overRounds, type Bench } from './harness.ts';

const NODES = 4;
const LINK_BITS_PER_S = 250e6;

/** Spins for so many milliseconds, then says what share of a core it got. */
const SPIN = (ms: number): string => `const b = performance.now(), c = process.cpuUsage(); while (performance.now() - b < ${ms}); const u = process.cpuUsage(c); console.log((u.user + u.system) / 1000 / (performance.now() - b))`;
/** Takes what one connection brings and says how fast it came, bits per second, from the first byte on. */
const SINK = `require('net').createServer((s) => { let n = 0, b = 0; s.on('data', (d) => { b ||= performance.now(); n += d.length }); s.on('end', () => { console.log(n * 8000 / (performance.now() - b)); process.exit(0) }) }).listen(9000, '0.0.0.0', () => console.log('ready'))`;
const SOURCE = (host: string, bytes: number): string => `const s = require('net').connect(9000, '${host}'); const d = Buffer.alloc(65536); let n = 0; (function go() { while (n < ${bytes}) { n += d.length; if (!s.write(d)) return s.once('drain', go) } s.end() })()`;

/** The emulation bench. */
export const emulationBench: Bench = {
  description: 'how true emulated nodes are: share of the CPU quota, share of the link rate, set-up and removal (root and iproute2)',
  async run({ quick, progress }) {
    const cpus = (0.7 * availableParallelism()) / NODES;
    const rounds = quick ? 2 : 5;
    const dataDir = await mkdtemp(join(tmpdir(), 'metronome-bench-'));
    const setUp: number[] = [], removal: number[] = [], cpuLeast: number[] = [], cpuMost: number[] = [], one: number[] = [], two: number[] = [];
    try {
      for (let round = 0; round < rounds; round++) {
        progress(`emulation: round ${round + 1} of ${rounds}: ${NODES} nodes with ${cpus.toFixed(2)} CPUs`);
        const begin = performance.now();
        const emulation = await openEmulation({ nodes: NODES, linkBitsPerS: LINK_BITS_PER_S, latencyMs: 0, cpus, mode: 'namespaces', dataDir });
        setUp.push(performance.now() - begin);
        try {
          if (!emulation.plan.quota) throw new Error(`bench emulation: ${emulation.plan.notes.join(' ')}`);
          const shares = (await Promise.all(Array.from({ length: NODES }, (_, n) => inNode(emulation, n, SPIN(quick ? 2_000 : 4_000)).done))).map((text) => Number(text) / cpus);
          cpuLeast.push(Math.min(...shares));
          cpuMost.push(Math.max(...shares));
          const bytes = (quick ? 12 : 32) * 1024 ** 2;
          one.push(await transfer(emulation, 0, 1, bytes) / LINK_BITS_PER_S);
          two.push(Math.min(...await Promise.all([transfer(emulation, 0, 1, bytes), transfer(emulation, 2, 3, bytes)])) / LINK_BITS_PER_S);
        } finally {
          const end = performance.now();
          const left = emulation.close();
          removal.push(performance.now() - end);
          if (left.length > 0) progress(`emulation: still there: ${left.join(', ')}`);
        }
      }
    } finally {
      await rm(dataDir, { recursive: true, force: true });
    }
    return {
      mode: 'real',
      figures: [
        overRounds('cpu_share_least', '', cpuLeast, rounds * NODES), overRounds('cpu_share_most', '', cpuMost, rounds * NODES), overRounds('link_share', '', one, rounds), overRounds('link_share_two_pairs', '', two, rounds),
        overRounds('set_up', 'ms', setUp, rounds), overRounds('removal', 'ms', removal, rounds),
      ],
      params: { nodes: NODES, linkBitsPerS: LINK_BITS_PER_S, cpus, rounds },
    };
  },
};

/** Runs a script of Node in a node. */
function inNode(emulation: Emulation, n: number, script: string): { readonly ready: Promise<void>; readonly done: Promise<string> } {
  const [program = '', ...args] = [...emulation.node(n).launcher, process.execPath, '-e', script];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env: {} });
  let out = '';
  const { promise: ready, resolve } = Promise.withResolvers<void>();
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8');
    if (out.includes('ready')) resolve();
  });
  const done = new Promise<string>((end, fail) => {
    child.once('error', fail);
    child.once('close', (code) => (code === 0 ? end(out.replace('ready', '').trim()) : fail(new Error(`bench emulation: a program in node ${n + 1} ended with ${code}`))));
  });
  return { ready, done };
}

async function transfer(emulation: Emulation, from: number, to: number, bytes: number): Promise<number> {
  const sink = inNode(emulation, to, SINK);
  await sink.ready;
  const { args } = emulation.node(to);
  await inNode(emulation, from, SOURCE(args[args.indexOf('--host') + 1] ?? '', bytes)).done;
  return Number(await sink.done);
}
