/** Writes a Word document: styles for headings, numbering for lists, tables without marked heads, one picture. */
import { DECLARATION, contentTypesPart, relationsPart, xml } from './xml.mjs';
import { zipOfSize } from './zip.mjs';

const W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing" xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"';

/** The bytes of a document of these blocks. */
export function writeDocx(blocks, { random, bytes }) {
  const document = `${DECLARATION}<w:document ${W}><w:body>${blocks.map(blockXml).join('')}${PICTURE}<w:sectPr/></w:body></w:document>`;
  return zipOfSize([
    ['[Content_Types].xml', contentTypesPart([['word/document.xml', 'wordprocessingml.document.main'], ['word/styles.xml', 'wordprocessingml.styles'], ['word/numbering.xml', 'wordprocessingml.numbering']])],
    ['_rels/.rels', relationsPart([['officeDocument', 'word/document.xml']])],
    ['word/_rels/document.xml.rels', relationsPart([['styles', 'styles.xml'], ['numbering', 'numbering.xml'], ['image', 'media/image1.png']])],
    ['word/styles.xml', STYLES],
    ['word/numbering.xml', NUMBERING],
    ['word/document.xml', document],
  ], 'word/media/image1.png', { random, bytes });
}

const STYLES = `${DECLARATION}<w:styles ${W}><w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/></w:style>${[1, 2, 3].map((level) => `<w:style w:type="paragraph" w:styleId="Heading${level}"><w:name w:val="heading ${level}"/><w:basedOn w:val="Normal"/></w:style>`).join('')}<w:style w:type="paragraph" w:styleId="ListParagraph"><w:name w:val="List Paragraph"/></w:style></w:styles>`;
const NUMBERING = `${DECLARATION}<w:numbering ${W}><w:abstractNum w:abstractNumId="0">${[0, 1, 2].map((level) => `<w:lvl w:ilvl="${level}"><w:start w:val="1"/><w:numFmt w:val="bullet"/><w:lvlText w:val="-"/></w:lvl>`).join('')}</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num></w:numbering>`;
const PICTURE = '<w:p><w:r><w:drawing><wp:inline><wp:extent cx="914400" cy="914400"/><wp:docPr id="1" name="Picture 1"/><a:graphic><a:graphicData uri="http://schemas.openxmlformats.org/drawingml/2006/picture"><pic:pic><pic:nvPicPr><pic:cNvPr id="1" name="image1.png"/><pic:cNvPicPr/></pic:nvPicPr><pic:blipFill><a:blip r:embed="rId3"/></pic:blipFill><pic:spPr/></pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>';

function blockXml(block) {
  if (block.type === 'heading') return paragraph(block.text, `<w:pStyle w:val="Heading${block.level}"/>`);
  if (block.type === 'list') return block.items.map(({ level, text }) => paragraph(text, `<w:pStyle w:val="ListParagraph"/><w:numPr><w:ilvl w:val="${level}"/><w:numId w:val="1"/></w:numPr>`)).join('');
  if (block.type === 'table') return `<w:tbl>${block.rows.map((row) => `<w:tr>${row.map((text) => `<w:tc>${paragraph(text, '')}</w:tc>`).join('')}</w:tr>`).join('')}</w:tbl>`;
  return paragraph(block.text, '');
}

/** A paragraph in several runs, as Word writes them. */
function paragraph(text, properties) {
  const words = text.split(' ');
  const middle = Math.ceil(words.length / 2);
  const runs = [words.slice(0, middle).join(' '), words.slice(middle).join(' ')].filter((run) => run !== '');
  return `<w:p>${properties === '' ? '' : `<w:pPr>${properties}</w:pPr>`}${runs.map((run, i) => `<w:r><w:t xml:space="preserve">${i === 0 ? '' : ' '}${xml(run)}</w:t></w:r>`).join('')}</w:p>`;
}
