import { spawnGatewayThread, spawnGatewayProcess } from '/work/main/src/gateway/spawn-gateway.ts';
import { DEFAULT_GATEWAY_CONFIG } from '/work/main/src/gateway/gateway-config.ts';
import { Worker, isMainThread, workerData, parentPort } from 'node:worker_threads';
import { InvokeResponse } from '/work/main/src/rpc/gen/metronome/v1/invoke.ts';
import { createClient } from '/work/main/src/rpc/client.ts';
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
if (process.argv[2] === 'client') {
  const client = createClient({ address: process.argv[3]! });
  const payload = Buffer.from('{"a":1}');
  const q = (xs: number[], p: number) => xs.sort((a, b) => a - b)[Math.floor(xs.length * p)]!.toFixed(3);
  for (let i = 0; i < 1500; i++) await client.invoke({ function: 'echo', payload });
  let xs: number[] = [];
  for (let i = 0; i < 3000; i++) { const t = performance.now(); await client.invoke({ function: 'echo', payload }); xs.push(performance.now() - t); }
  console.log('  unary seq    p50', q(xs, .5), 'p99', q(xs, .99));
  xs = [];
  for (let i = 0; i < 200; i++) { await new Promise((r) => setTimeout(r, 10)); const t = performance.now(); await client.invoke({ function: 'echo', payload }); xs.push(performance.now() - t); }
  console.log('  unary 100/s  p50', q(xs, .5), 'p99', q(xs, .99));
  const s = client.openInvokeStream();
  xs = [];
  for (let i = 0; i < 3000; i++) { const t = performance.now(); await s.invoke({ function: 'echo', payload }); xs.push(performance.now() - t); }
  console.log('  stream seq   p50', q(xs, .5), 'p99', q(xs, .99));
  for (const n of [64, 512]) {
    let done = 0; const total = 40000; const t0 = performance.now();
    await Promise.all(Array.from({ length: n }, async () => { while (done < total) { done++; await s.invoke({ function: 'echo', payload }); } }));
    console.log(`  stream ${n} in flight`, Math.round(total / (performance.now() - t0) * 1000), '/s');
  }
  { let done = 0; const total = 6000; const t0 = performance.now();
    await Promise.all(Array.from({ length: 32 }, async () => { while (done < total) { done++; await client.invoke({ function: 'echo', payload }); } }));
    console.log('  unary 32 in flight', Math.round(total / (performance.now() - t0) * 1000), '/s'); }
  process.exit();
}
const g = (process.argv[2] === 'process' ? spawnGatewayProcess : spawnGatewayThread)({ ...DEFAULT_GATEWAY_CONFIG, logLevel: 'error' });
const base = InvokeResponse.fromPartial({ node: 'n1', contentType: 'application/json', reason: 'bestNodeHasRoom', phases: { ranMs: 1, totalMs: 2 } });
const port = await new Promise<number>((r) => g.line.onMessage((m) => {
  if (m.kind === 'listening') r(m.grpcPort);
  if (m.kind === 'submit') g.line.post({ kind: 'settled', items: m.items.map((i) => ({ ticket: i.ticket, response: { ...base, payload: i.payload as Buffer } })) });
}));
console.log(process.argv[2]);
const c = fork(fileURLToPath(import.meta.url), ['client', `127.0.0.1:${port}`]);
c.on('exit', () => process.exit());
