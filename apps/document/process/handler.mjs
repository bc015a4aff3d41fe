/**
 * any2md-process: converts the document that any2md-validate handed on (docx, xlsx, pptx, pdf, html, csv) into Markdown, as an output object.
 * Event: the job of any2md-validate, { kind, name?, charset?, delimiter? }. Returns what is in the document: headings, paragraphs, tables.
 * Everything is imported when the function is loaded, so that a warm sandbox and a zygote are worth something.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { parse } from 'node:path';
import { csvToMarkdown } from './csv.mjs';
import { docxToMarkdown } from './docx.mjs';
import { htmlToMarkdown } from './html.mjs';
import { outline } from './outline.mjs';
import { pdfToMarkdown } from './pdf.mjs';
import { pptxToMarkdown } from './pptx.mjs';
import { xlsxToMarkdown } from './xlsx.mjs';

const MAX_BYTES = 64 * 1024 * 1024;
const CONVERTERS = { docx: docxToMarkdown, xlsx: xlsxToMarkdown, pptx: pptxToMarkdown, pdf: pdfToMarkdown, html: htmlToMarkdown, csv: csvToMarkdown };

export async function handler(job, context) {
  const [document, ...more] = context.inputs;
  if (document === undefined || more.length > 0) throw new TypeError(`any2md-process needs exactly one input object, the document, not ${context.inputs.length}`);
  const convert = Object.hasOwn(CONVERTERS, job?.kind ?? '') ? CONVERTERS[job.kind] : undefined;
  if (convert === undefined) throw new TypeError(`kind must be one of ${Object.keys(CONVERTERS).join(', ')}, not ${JSON.stringify(job?.kind)}; any2md-validate finds it out`);
  if (document.sizeBytes > MAX_BYTES) throw new RangeError(`"${document.name}" has ${document.sizeBytes} bytes, more than ${MAX_BYTES}`);
  const name = typeof job.name === 'string' && job.name !== '' ? job.name : document.name;
  const { markdown, ...facts } = await convert(await readFile(document.path), { ...job, name });
  const text = `${markdown.trim()}\n`;
  const file = `${parse(name).name.slice(0, 100) || 'document'}.md`;
  await writeFile(context.output(file), text);
  return { kind: job.kind, name, file, bytes: Buffer.byteLength(text), ...outline(text), ...facts };
}
