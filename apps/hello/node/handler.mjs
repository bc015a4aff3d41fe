/** hello-node: greets. Event: { "name": "…" } or nothing. */
export async function handler(event) {
  return { message: `Hello, ${event?.name ?? 'world'}!`, runtime: `node ${process.versions.node}` };
}
