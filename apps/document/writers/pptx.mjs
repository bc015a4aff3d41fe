/** Writes a presentation: slides with a title, a body of levels and tables; a picture lies beside them. */
import { DECLARATION, contentTypesPart, relationsPart, xml } from './xml.mjs';
import { zipOfSize } from './zip.mjs';

const P = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"';

/** The bytes of a presentation; every heading begins a slide. */
export function writePptx(blocks, { random, bytes }) {
  const slides = [];
  for (const block of blocks) {
    if (block.type === 'heading') slides.push([]);
    slides.at(-1).push(block);
  }
  // The files are numbered the other way round: readers must go by the order of the presentation.
  const partOf = (i) => `slides/slide${slides.length - i}.xml`;
  return zipOfSize([
    ['[Content_Types].xml', contentTypesPart([['ppt/presentation.xml', 'presentationml.presentation.main'], ...slides.map((_, i) => [`ppt/${partOf(i)}`, 'presentationml.slide'])])],
    ['_rels/.rels', relationsPart([['officeDocument', 'ppt/presentation.xml']])],
    ['ppt/_rels/presentation.xml.rels', relationsPart(slides.map((_, i) => ['slide', partOf(i)]))],
    ['ppt/presentation.xml', `${DECLARATION}<p:presentation ${P}><p:sldIdLst>${slides.map((_, i) => `<p:sldId id="${256 + i}" r:id="rId${i + 1}"/>`).join('')}</p:sldIdLst><p:sldSz cx="9144000" cy="6858000"/></p:presentation>`],
    ...slides.map((slide, i) => [`ppt/${partOf(i)}`, slideXml(slide)]),
  ], 'ppt/media/image1.png', { random, bytes });
}

function slideXml(blocks) {
  return `${DECLARATION}<p:sld ${P}><p:cSld><p:spTree><p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>${blocks.map((block, i) => shapeXml(block, i + 2)).join('')}</p:spTree></p:cSld></p:sld>`;
}

function shapeXml(block, id) {
  if (block.type === 'table') {
    const rows = block.rows.map((row) => `<a:tr h="370840">${row.map((text) => `<a:tc>${bodyXml('a', [{ level: 0, text }])}<a:tcPr/></a:tc>`).join('')}</a:tr>`).join('');
    return `<p:graphicFrame><p:nvGraphicFramePr><p:cNvPr id="${id}" name="Table ${id}"/><p:cNvGraphicFramePr/><p:nvPr/></p:nvGraphicFramePr><a:graphic><a:graphicData uri="http://schemas.openxmlformats.org/drawingml/2006/table"><a:tbl><a:tblGrid/>${rows}</a:tbl></a:graphicData></a:graphic></p:graphicFrame>`;
  }
  const [place, items] = block.type === 'heading' ? ['<p:ph type="title"/>', [{ level: 0, text: block.text }]] : ['<p:ph idx="1"/>', block.items];
  return `<p:sp><p:nvSpPr><p:cNvPr id="${id}" name="Shape ${id}"/><p:cNvSpPr/><p:nvPr>${place}</p:nvPr></p:nvSpPr><p:spPr/>${bodyXml('p', items)}</p:sp>`;
}

function bodyXml(prefix, items) {
  return `<${prefix}:txBody><a:bodyPr/>${items.map(({ level, text }) => `<a:p>${level === 0 ? '' : `<a:pPr lvl="${level}"/>`}<a:r><a:rPr lang="en-US"/><a:t>${xml(text)}</a:t></a:r></a:p>`).join('')}</${prefix}:txBody>`;
}
