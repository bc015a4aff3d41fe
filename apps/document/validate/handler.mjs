/**
 * any2md-validate: finds out what the one input object really is (docx, xlsx, pptx, pdf, html or csv; names are only believed where the
 * bytes say nothing), refuses what cannot be converted, and hands on a copy with a job for any2md-process. Event: { "type"?: media type or ending }.
 * Memory grows with the file, which is at most 64 MiB.
 */
import { copyFile, readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import mime from 'mime-types';
import { officeKind } from './office.mjs';
import { textKind } from './text.mjs';

const MAX_BYTES = 64 * 1024 * 1024;
/** What can be converted, with the media types and endings that may stand for it. */
const MEDIA_TYPES = {
  docx: mime.types['docx'],
  xlsx: mime.types['xlsx'],
  pptx: mime.types['pptx'],
  pdf: mime.types['pdf'],
  html: mime.types['html'],
  csv: mime.types['csv'],
};
const KINDS = Object.keys(MEDIA_TYPES);

export async function handler(event, context) {
  const [document, ...more] = context.inputs;
  if (document === undefined || more.length > 0) throw new TypeError(`any2md-validate needs exactly one input object, the document, not ${context.inputs.length}`);
  if (document.sizeBytes === 0) throw new TypeError(`"${document.name}" is empty`);
  if (document.sizeBytes > MAX_BYTES) throw new RangeError(`"${document.name}" has ${document.sizeBytes} bytes, more than ${MAX_BYTES}`);
  const declared = declaredKind(event?.type, document.name);
  const bytes = await readFile(document.path);
  const found = kindOf(bytes, declared, document.name);
  const file = `document.${found.kind}`;
  await copyFile(document.path, context.output(file));
  return { ...found, mediaType: MEDIA_TYPES[found.kind], name: document.name, file, bytes: bytes.length, mismatch: declared !== undefined && declared !== found.kind ? declared : null };
}

/** The kind that the caller names, or that the name of the file says; undefined if neither says anything we know. */
function declaredKind(type, name) {
  if (type !== undefined && type !== null) {
    if (typeof type !== 'string') throw new TypeError(`type must be a media type or a file ending, not ${JSON.stringify(type)}`);
    const ending = type.includes('/') ? mime.extension(type) : type.replace(/^\./, '').toLowerCase();
    if (!KINDS.includes(ending)) throw new TypeError(`documents of type "${type}" cannot be converted; known are ${KINDS.join(', ')}`);
    return ending;
  }
  const ending = mime.extension(mime.lookup(extname(name)) || '');
  return KINDS.includes(ending) ? ending : undefined;
}

function kindOf(bytes, declared, name) {
  const head = bytes.subarray(0, 1024).toString('latin1');
  const pdfAt = head.indexOf('%PDF-');
  if (pdfAt >= 0) return pdfKind(bytes, pdfAt, name);
  if (head.startsWith('PK')) return officeKind(bytes, name);
  if (head.startsWith('\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1')) {
    // A compound file: either the shell around an encrypted document or a document from before 2007.
    const isEncrypted = bytes.includes(Buffer.from('EncryptedPackage', 'utf16le'));
    throw new TypeError(isEncrypted ? `"${name}" is protected with a password; remove the protection first` : `"${name}" is an Office document of the old binary form (.doc, .xls, .ppt); save it as .docx, .xlsx or .pptx`);
  }
  return textKind(bytes, declared, name);
}

function pdfKind(bytes, at, name) {
  const version = bytes.subarray(at + 5, at + 8).toString('latin1');
  const tail = bytes.subarray(-2048).toString('latin1');
  if (!tail.includes('startxref')) throw new TypeError(`"${name}" is a PDF without its end: the file is truncated`);
  return { kind: 'pdf', version };
}
