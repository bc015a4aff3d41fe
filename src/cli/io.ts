/** What the commands know of the outside: streams, environment, terminal. Tests hand in their own. */

/** The outside. */
export interface CliIo {
  /** Data: standard output. */
  out(text: string | Uint8Array): void;
  /** Progress and complaints: standard error. */
  err(text: string): void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Width of the terminal that standard output goes to; undefined when it is none: then nothing is cut. */
  readonly columns: number | undefined;
  /** Its height. */
  readonly rows?: number | undefined;
  /** Whether standard output is a terminal that shows colours. */
  readonly outColor: boolean;
  /** Whether standard error is one. */
  readonly errColor: boolean;
  /** All of standard input. */
  readStdin(): Promise<Uint8Array>;
}

/** Colours that are used, by meaning. */
const CODES = { bold: [1, 22], dim: [2, 22], red: [31, 39], green: [32, 39], yellow: [33, 39], cyan: [36, 39] } as const;
export type Paint = keyof typeof CODES;

/** Text in a colour, or the text itself when colours are off. */
export function paint(on: boolean, how: Paint, text: string): string {
  if (!on || text === '') return text;
  const [open, close] = CODES[how];
  return `\u001b[${open}m${text}\u001b[${close}m`;
}

/** The outside of this process. */
export function processIo(): CliIo {
  const { env } = process;
  const colourful = (stream: NodeJS.WriteStream): boolean => {
    if ((env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb') return false;
    return stream.isTTY || (env['FORCE_COLOR'] ?? '0') !== '0';
  };
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    env,
    cwd: process.cwd(),
    // Terminals change their size.
    get columns() {
      return process.stdout.isTTY ? process.stdout.columns : undefined;
    },
    get rows() {
      return process.stdout.isTTY ? process.stdout.rows : undefined;
    },
    outColor: colourful(process.stdout),
    errColor: colourful(process.stderr),
    async readStdin() {
      const chunks: Buffer[] = [];
      for await (const chunk of process.stdin as AsyncIterable<Buffer>) chunks.push(chunk);
      return Buffer.concat(chunks);
    },
  };
}
