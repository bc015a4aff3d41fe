/** Writes PDF 1.4 by hand: pages of Helvetica in three sizes for headings and one for text, packed streams, a table of references, one picture. */
import { deflateSync } from 'node:zlib';
import { noise } from './zip.mjs';

const SIZES = { 1: 22, 2: 17, 3: 14 };
const BODY_SIZE = 10.5;
const LEADING = 1.3;
const PAGE = { width: 595, height: 842, margin: 64 };
const LINE_CHARACTERS = 84;

/** Text without letters that the font's encoding does not have. */
export function pdfText(text) {
  return text.replaceAll(/[^\x20-\x7e\xa0-\xff]+/g, 'x');
}

/** The bytes of a document of headings and paragraphs. Blocks never cross pages: what does is two paragraphs to every reader. */
export function writePdf(blocks, { random, bytes }) {
  const pages = [[]];
  let y = PAGE.height - PAGE.margin;
  for (const block of blocks) {
    const size = block.type === 'heading' ? SIZES[block.level] : BODY_SIZE;
    const lines = wrap(block.text, Math.floor((LINE_CHARACTERS * BODY_SIZE) / size));
    const height = lines.length * size * LEADING;
    if (y - height < PAGE.margin) {
      pages.push([]);
      y = PAGE.height - PAGE.margin;
    }
    y -= size; // room above, so that the gap is larger than inside the block
    for (const line of lines) {
      y -= size * LEADING;
      pages.at(-1).push(`BT /F1 ${size} Tf ${PAGE.margin} ${y.toFixed(2)} Td (${line.replaceAll(/[\\()]/g, '\\$&')}) Tj ET`);
    }
  }
  return assemble(pages.map((lines) => lines.join('\n')), { random, bytes });
}

function wrap(text, characters) {
  const lines = [''];
  for (const word of text.split(' ')) {
    if (lines.at(-1) !== '' && lines.at(-1).length + 1 + word.length > characters) lines.push(word);
    else lines[lines.length - 1] += lines.at(-1) === '' ? word : ` ${word}`;
  }
  return lines;
}

function assemble(pages, { random, bytes }) {
  const contents = pages.map((text) => deflateSync(Buffer.from(text, 'latin1')));
  const used = contents.reduce((sum, content) => sum + content.length + 260, 900);
  const height = Math.max(1, Math.floor((bytes - used) / 256));
  const first = 5; // the objects before the pages
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    `<< /Type /Pages /Count ${pages.length} /Kids [${pages.map((_, i) => `${first + 2 * i} 0 R`).join(' ')}] >>`,
    '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>',
    stream(`/Type /XObject /Subtype /Image /Width 256 /Height ${height} /ColorSpace /DeviceGray /BitsPerComponent 8`, noise(random, 256 * height)),
    ...contents.flatMap((content, i) => [
      `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${PAGE.width} ${PAGE.height}] /Resources << /Font << /F1 3 0 R >>${i === 0 ? ' /XObject << /P1 4 0 R >>' : ''} >> /Contents ${first + 2 * i + 1} 0 R >>`,
      stream('/Filter /FlateDecode', content),
    ]),
  ];
  const chunks = [Buffer.from('%PDF-1.4\n%\xe2\xe3\xcf\xd3\n', 'latin1')];
  const offsets = [];
  let offset = chunks[0].length;
  for (const [i, object] of objects.entries()) {
    offsets.push(offset);
    const chunk = Buffer.concat([Buffer.from(`${i + 1} 0 obj\n`), Buffer.from(object), Buffer.from('\nendobj\n')]);
    chunks.push(chunk);
    offset += chunk.length;
  }
  const table = offsets.map((at) => `${String(at).padStart(10, '0')} 00000 n \n`).join('');
  chunks.push(Buffer.from(`xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${table}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${offset}\n%%EOF\n`));
  return Buffer.concat(chunks);
}

function stream(dictionary, content) {
  return Buffer.concat([Buffer.from(`<< ${dictionary} /Length ${content.length} >>\nstream\n`), content, Buffer.from('\nendstream')]);
}
