/** Word → Markdown: mammoth makes HTML of the styles (headings, lists, tables), turndown Markdown of that. Pictures are counted and left out. */
import { zipSync } from 'fflate';
import mammoth from 'mammoth';
import { fromHtml } from './html.mjs';
import { partText, unpack } from './parts.mjs';

export async function docxToMarkdown(bytes, { name }) {
  // Mammoth unpacks by itself and without bounds, so it gets an archive of what we unpacked.
  const empty = {}; // pictures are referred to, but nobody looks at them
  const parts = unpack(bytes, name, (part) => {
    if (part.startsWith('word/media/')) empty[part] = new Uint8Array(0);
    return /\.(xml|rels)$/.test(part);
  });
  if (parts['word/document.xml'] === undefined) throw new TypeError(`"${name}" has no part word/document.xml`);
  for (const part of Object.keys(parts)) partText(parts, part, name);
  let pictures = 0;
  const convertImage = mammoth.images.imgElement(async () => {
    pictures++;
    return { src: '' };
  });
  let html;
  try {
    ({ value: html } = await mammoth.convertToHtml({ buffer: Buffer.from(zipSync({ ...parts, ...empty }, { level: 0 })) }, { convertImage, externalFileAccess: false }));
  } catch (error) {
    throw new TypeError(`"${name}" is damaged: ${error.message}`, { cause: error });
  }
  return { markdown: fromHtml(html, name), pictures };
}
