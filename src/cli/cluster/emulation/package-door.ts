/**
 * The way of emulated nodes to the package registries. Their network ends at the bridge; this proxy at its address lets npm and pip
 * through to the registries that this user has configured, and to nothing else. What comes in passes the node's shaped link.
 */
import { execFile } from 'node:child_process';
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { readNpmSettings } from '../../../agent/packages/npm-settings.ts';

/** A door that is open. */
export interface PackageDoor {
  /** Environment of a node's agent, by which npm and pip find it. */
  readonly env: Readonly<Record<string, string>>;
  close(): void;
}

const MAX_CONNECTIONS = 256;
const SILENCE_MS = 60_000;
const PIP_TIMEOUT_MS = 20_000;
/** Where pip goes by itself. */
const PYTHON_HOSTS = ['pypi.org:443', 'files.pythonhosted.org:443'];

/** Opens it at an address. `allowed`: "host:port" of what may be reached; asked for at the first use. */
export async function openPackageDoor(host: string, allowed: () => Promise<ReadonlySet<string>> = configuredRegistries): Promise<PackageDoor> {
  let known: Promise<ReadonlySet<string>> | undefined;
  const isAllowed = async (target: string): Promise<boolean> => (await (known ??= allowed())).has(target);
  const sockets = new Set<Socket>();
  const server = createServer((incoming, outgoing) => void pass(incoming, outgoing, isAllowed));
  server.maxConnections = MAX_CONNECTIONS;
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => {}); // it went away; 'close' follows
    socket.setTimeout(SILENCE_MS, () => socket.destroy());
  });
  server.on('connect', (incoming: IncomingMessage, socket: Socket, head: Buffer) => void tunnel(incoming.url ?? '', socket, head, isAllowed));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host, resolve);
  });
  const url = `http://${host}:${(server.address() as AddressInfo).port}`; // it listens on TCP
  return {
    env: { npm_config_proxy: url, npm_config_https_proxy: url, PIP_PROXY: url },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** TLS: the bytes as they are. */
async function tunnel(target: string, socket: Socket, head: Buffer, isAllowed: (target: string) => Promise<boolean>): Promise<void> {
  if (!(await isAllowed(target))) return void socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
  const colon = target.lastIndexOf(':');
  const remote = connect(Number(target.slice(colon + 1)), target.slice(0, colon).replace(/^\[|\]$/g, ''));
  remote.setTimeout(SILENCE_MS, () => remote.destroy());
  remote.once('error', () => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'));
  remote.once('connect', () => {
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
    remote.write(head);
    // Whichever end goes, the other goes with it; neither has anybody to tell.
    pipeline(socket, remote, () => {});
    pipeline(remote, socket, () => {});
  });
}

/** Plain HTTP: one request, one answer. */
async function pass(incoming: IncomingMessage, outgoing: ServerResponse, isAllowed: (target: string) => Promise<boolean>): Promise<void> {
  const url = URL.canParse(incoming.url ?? '') ? new URL(incoming.url ?? '') : undefined;
  if (url === undefined || url.protocol !== 'http:' || !(await isAllowed(targetOf(url)))) {
    outgoing.writeHead(403).end('Only the package registries of this user can be reached from an emulated node.\n');
    return;
  }
  const { 'proxy-connection': _hop, connection: _alsoHop, ...headers } = incoming.headers;
  const remote = request(url, { method: incoming.method, headers, timeout: SILENCE_MS }, (answer) => {
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    pipeline(answer, outgoing, () => {});
  });
  remote.once('timeout', () => remote.destroy());
  remote.once('error', (error) => {
    if (!outgoing.headersSent) outgoing.writeHead(502).end(`${error.message}\n`);
    else outgoing.destroy();
  });
  pipeline(incoming, remote, () => {});
}

/** The registries that npm is configured for, and the indices of pip. */
export async function configuredRegistries(): Promise<ReadonlySet<string>> {
  const [settings, pip] = await Promise.all([readNpmSettings({ registry: '', cwd: '/' }), pipIndices()]);
  const registries = Object.entries(settings).filter(([key]) => key === 'registry' || key.endsWith(':registry')).map(([, value]) => String(value));
  const found = [...registries, ...pip].filter((text) => URL.canParse(text)).map((text) => targetOf(new URL(text)));
  return new Set([...found, ...PYTHON_HOSTS]);
}

/** What pip's files and the environment name; nothing where there is no pip. */
function pipIndices(): Promise<string[]> {
  return new Promise((resolve) => {
    execFile('python3', ['-m', 'pip', 'config', 'list', '--disable-pip-version-check'], { cwd: '/', timeout: PIP_TIMEOUT_MS, killSignal: 'SIGKILL' }, (error, stdout) => {
      const lines = error === null ? stdout.split('\n').filter((line) => /^[\w:-]+\.(?:extra-)?index-url=/.test(line)) : [];
      // Several stand in one value, with "\n" between them.
      resolve(lines.flatMap((line) => line.match(/https?:\/\/[^\s\\'"]+/g) ?? []));
    });
  });
}

function targetOf(url: URL): string {
  return `${url.hostname}:${url.port || (url.protocol === 'http:' ? '80' : '443')}`;
}
