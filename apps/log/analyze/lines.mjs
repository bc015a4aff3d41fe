/** Lines of a file as latin1 text, streamed. A line longer than `maxBytes` comes out as undefined, so that memory stays bounded. */
import { createReadStream } from 'node:fs';

/** Calls `onLine` for every line; empty lines are skipped. */
export async function eachLine(path, onLine, maxBytes = 64 * 1024) {
  let rest = '';
  let isSkipping = false; // inside a line that is too long
  for await (const chunk of createReadStream(path, { encoding: 'latin1', highWaterMark: 1 << 20 })) {
    let start = 0;
    for (let end = chunk.indexOf('\n'); end >= 0; end = chunk.indexOf('\n', start)) {
      const line = rest === '' ? chunk.slice(start, end) : rest + chunk.slice(start, end);
      rest = '';
      start = end + 1;
      if (isSkipping) isSkipping = false;
      else emit(line);
    }
    if (!isSkipping) rest += chunk.slice(start);
    if (rest.length > maxBytes) {
      onLine(undefined);
      isSkipping = true;
      rest = '';
    }
  }
  if (rest !== '') emit(rest);

  function emit(line) {
    const text = line.endsWith('\r') ? line.slice(0, -1) : line;
    if (text.length > maxBytes) onLine(undefined);
    else if (text !== '') onLine(text);
  }
}
