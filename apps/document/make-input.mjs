/**
 * Makes a document (docx, xlsx, pptx, pdf, html, csv) of a given size and the truth about it: its headings, paragraphs, lists and tables.
 * The same seed and size give the same bytes. As a program: `node make-input.mjs PATH [SIZE] [SEED] [--kind docx]`; the truth goes to stdout as JSON.
 */
import { stat, writeFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { createRandom, runAsProgram } from '../input-maker.mjs';
import { makeBlocks, makeSheets, makeSlides } from './writers/content.mjs';
import { writeDocx } from './writers/docx.mjs';
import { pdfText, writePdf } from './writers/pdf.mjs';
import { writePptx } from './writers/pptx.mjs';
import { writeCsv, writeHtml } from './writers/text.mjs';
import { writeXlsx } from './writers/xlsx.mjs';

/** The kinds that can be made. */
export const KINDS = ['docx', 'xlsx', 'pptx', 'pdf', 'html', 'csv'];
/** Characters of text per byte of the file. In docx, pptx and pdf they take a good part of the bytes, and a picture of noise the rest. */
const CHARACTERS_PER_BYTE = { docx: 0.75, pptx: 0.24, pdf: 0.64, xlsx: 1.18, html: 0.88, csv: 0.95 };
/** Most characters where a picture can take the rest. */
const MAX_CHARACTERS = 600_000;

/**
 * Writes a document of about `bytes` bytes to `path`. Returns the truth: { path, kind, bytes, payload, blocks }, where blocks are
 * { type: 'heading', level, text }, { type: 'paragraph', text }, { type: 'list', items: [{ level, text }] } and { type: 'table', rows }.
 * @param {{ path: string, bytes: number, seed?: number, kind?: string }} options
 */
export async function makeInput({ path, bytes, seed = 1, kind = extname(path).slice(1) }) {
  if (!KINDS.includes(kind)) throw new RangeError(`the kind of a document is one of ${KINDS.join(', ')}, not "${kind}"; name the file so or say --kind`);
  const random = createRandom(seed);
  const { file, blocks } = WRITERS[kind]({ random, characters: bytes * CHARACTERS_PER_BYTE[kind], bytes });
  await writeFile(path, file);
  return { path, kind, bytes: (await stat(path)).size, payload: null, blocks };
}

const WRITERS = {
  docx({ random, characters, bytes }) {
    const blocks = makeBlocks({ random, characters: Math.min(characters, MAX_CHARACTERS) });
    return { blocks, file: writeDocx(blocks, { random, bytes }) };
  },
  pptx({ random, characters, bytes }) {
    const blocks = makeSlides({ random, characters: Math.min(characters, MAX_CHARACTERS) });
    return { blocks, file: writePptx(blocks, { random, bytes }) };
  },
  pdf({ random, characters, bytes }) {
    // Bullets and tables are only pictures of themselves in a PDF: there is nothing that a reader could find them by.
    const blocks = makeBlocks({ random, characters: Math.min(characters, MAX_CHARACTERS), types: ['heading', 'paragraph'], clean: pdfText });
    return { blocks, file: writePdf(blocks, { random, bytes }) };
  },
  html({ random, characters }) {
    const blocks = makeBlocks({ random, characters });
    return { blocks, file: writeHtml(blocks) };
  },
  csv({ random, characters }) {
    const [, { rows }] = asText(makeSheets({ random, characters, sheets: 1 }));
    return { blocks: [{ type: 'table', rows }], file: writeCsv(rows) };
  },
  xlsx({ random, characters }) {
    const blocks = makeSheets({ random, characters });
    return { blocks: asText(blocks), file: writeXlsx(blocks) };
  },
};

/** Sheets with what a reader sees in their cells. */
function asText(sheets) {
  return sheets.map((block) => (block.type === 'table' ? { type: 'table', rows: block.rows.map((row) => row.map(({ text }) => text)) } : block));
}

await runAsProgram(import.meta.url, {
  does: 'Makes a document with known content; what is in it goes to stdout as JSON.',
  size: '200KB',
  options: { kind: { doc: 'by default what the path ends with', choices: KINDS } },
  make: makeInput,
});
