/** PowerPoint → Markdown: a heading for each slide, its paragraphs as a list by level, its tables. Slides come in the order of the presentation. */
import { escape, heading, table } from './markdown.mjs';
import { neededText, partText, unpack } from './parts.mjs';
import { child, children, parseXml, relationId, relations, targetOf, textOf } from './xml.mjs';

const PRESENTATION = 'ppt/presentation.xml';
const MAX_DEPTH = 32;

export function pptxToMarkdown(bytes, { name }) {
  const parts = unpack(bytes, name, (part) => /^ppt\/(presentation\.xml|_rels\/presentation\.xml\.rels|slides\/[^/]+\.xml)$/.test(part));
  const presentation = parseXml(neededText(parts, PRESENTATION, name), PRESENTATION, name);
  const targets = relations(parseXml(neededText(parts, 'ppt/_rels/presentation.xml.rels', name), 'ppt/_rels/presentation.xml.rels', name));
  const slides = children(child(presentation, 'sldIdLst') ?? { nodes: [] }, 'sldId').map((slide) => targets.get(relationId(slide)));
  const blocks = slides.flatMap((target, i) => {
    const part = targetOf(PRESENTATION, target ?? '');
    const text = partText(parts, part, name);
    if (text === undefined) throw new TypeError(`"${name}" is damaged: the presentation names slide ${i + 1}, but there is no ${part}`);
    return slideBlocks(parseXml(text, part, name), i + 1);
  });
  return { markdown: blocks.join('\n\n'), slides: slides.length };
}

function slideBlocks(slide, number) {
  const shapes = shapesOf(child(slide, 'cSld', 'spTree') ?? { nodes: [] }, 0);
  const title = shapes.find(isTitle);
  const blocks = [heading(2, title === undefined ? `Slide ${number}` : textOf(title, 't')) || `## Slide ${number}`];
  for (const shape of shapes) {
    if (shape === title) continue;
    if (shape.name === 'graphicFrame') blocks.push(...tablesOf(shape));
    else if (child(shape, 'txBody') !== undefined) blocks.push(listOf(child(shape, 'txBody')));
  }
  return blocks.filter((block) => block !== '');
}

/** Shapes and tables in their order, also those in groups. */
function shapesOf(tree, depth) {
  if (depth > MAX_DEPTH) return [];
  return children(tree, 'sp', 'graphicFrame', 'grpSp').flatMap((shape) => (shape.name === 'grpSp' ? shapesOf(shape, depth + 1) : [shape]));
}

function isTitle(shape) {
  const type = child(shape, 'nvSpPr', 'nvPr', 'ph')?.attributes.type;
  return type === 'title' || type === 'ctrTitle';
}

function listOf(body) {
  return children(body, 'p').map((paragraph) => {
    const text = textOf(paragraph, 't').replaceAll(/\s+/g, ' ').trim();
    const level = Number(child(paragraph, 'pPr')?.attributes.lvl ?? 0);
    return text === '' ? '' : `${'  '.repeat(Math.min(level, 8))}- ${escape(text)}`;
  }).filter((line) => line !== '').join('\n');
}

function tablesOf(frame) {
  const found = child(frame, 'graphic', 'graphicData', 'tbl');
  if (found === undefined) return [];
  return [table(children(found, 'tr').map((row) => children(row, 'tc').map((cell) => children(child(cell, 'txBody') ?? { nodes: [] }, 'p').map((paragraph) => textOf(paragraph, 't')).join(' '))))];
}
