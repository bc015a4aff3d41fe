/** Functions as a node sees them: packed, unpacked by an agent's own cache with their packages installed, called with a context like the agent's. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ProgramCache } from '../../src/agent/packages/program-cache.ts';
import { packFunction } from '../../src/config/bundle.ts';
import { handlerFile } from '../../src/config/bounds.ts';
import { loadManifest } from '../../src/config/manifest.ts';
import { resolvePackages } from '../../src/config/packages.ts';

/** The folder of the applications. */
export const APPS = fileURLToPath(new URL('../../apps', import.meta.url));

/** An input object as a handler sees it. */
export interface Input {
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly id: string;
}

/** What a handler returned, and the objects that it wrote, in the order of their names. */
export interface Ran {
  readonly result: unknown;
  readonly outputs: readonly Input[];
}

/** A function that can be called. */
export interface Unpacked {
  readonly folder: string;
  call(event: unknown, inputs?: readonly Input[]): Promise<Ran>;
}

type Handler = (event: unknown, context: unknown) => unknown;

/** An application whose functions can be called. */
export interface UnpackedApp {
  readonly functions: Readonly<Record<string, Unpacked>>;
  /** Everything that belongs to it, also what `given` writes; to be removed by the test. */
  readonly folder: string;
  /** Calls a function by name. */
  call(name: string, event: unknown, inputs: readonly Input[]): Promise<Ran>;
  /** A file as an input object. */
  given(name: string, content: string | Uint8Array): Promise<Input>;
}

/** Packs, unpacks and installs every function of an application. */
export async function unpackApp(app: string): Promise<UnpackedApp> {
  const folder = await mkdtemp(join(tmpdir(), `metronome-app-${app}-`));
  const { functions } = await loadManifest(join(APPS, app));
  const unpacked: Record<string, Unpacked> = {};
  const bundles = new Map<string, Uint8Array>();
  const ignore = (): void => {};
  const programs = await ProgramCache.open({
    dataDir: folder, packageQuotaBytes: 1024 ** 3, npmRegistry: '', python: async () => 'python3', fetchBundle: async (digest) => bundles.get(digest) ?? new Uint8Array(),
    onSetAdded: ignore, onSetRemoved: ignore, onPackageAdded: ignore, onPackageRemoved: ignore, log: { info: ignore, warn: ignore, error: ignore },
  });
  for (const { spec, codeDir } of functions) {
    const { lock, files } = await resolvePackages({ codeDir, ...spec }, { cacheDir: join(folder, 'locks') });
    const bundle = await packFunction(codeDir, { files });
    const bundleDigest = createHash('sha256').update(bundle).digest('hex');
    bundles.set(bundleDigest, bundle);
    // Never released: the folder goes as a whole.
    const { dir: home } = await programs.acquire({ bundleDigest, lock });
    const module: Record<string, Handler> = spec.runtime === 'node' ? ((await import(pathToFileURL(join(home, handlerFile(spec.handler))).href)) as Record<string, Handler>) : {}; // a function's module is known at run time only
    let calls = 0;
    unpacked[spec.name] = {
      folder: home,
      async call(event, inputs = []) {
        const target = join(folder, `${spec.name}-outputs-${calls++}`);
        await mkdir(target);
        const context = { invocationId: `inv-${calls}`, attempt: 1, function: spec.name, deadlineMs: 0, remainingMs: () => 60_000, inputs, output: (name: string) => join(target, name) };
        const result = await module['handler']?.(event, context);
        const names = (await readdir(target)).sort();
        const outputs = await Promise.all(names.map(async (name) => ({ name, path: join(target, name), sizeBytes: (await stat(join(target, name))).size, id: `${spec.name}-${calls}-${name}` })));
        // As it crosses the wire.
        return { result: JSON.parse(JSON.stringify(result ?? null)) as unknown, outputs };
      },
    };
  }
  await programs.close();
  return {
    functions: unpacked,
    folder,
    async call(name, event, inputs) {
      const found = unpacked[name];
      if (found === undefined) throw new Error(`there is no function ${name}`);
      return found.call(event, inputs);
    },
    async given(name, content) {
      const path = join(folder, `given-${name}`);
      await writeFile(path, content, 'latin1');
      return { name, path, sizeBytes: content.length, id: name };
    },
  };
}

/** An input object from a file that lies somewhere. */
export async function inputOf(path: string): Promise<Input> {
  return { name: basename(path), path, sizeBytes: (await stat(path)).size, id: basename(path) };
}
