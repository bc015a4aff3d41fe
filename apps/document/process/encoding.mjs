/** Bytes → text, in the encodings that documents come in. */
import iconv from 'iconv-lite';

/** Text of bytes in an encoding by its name; UTF-8 without one. TypeError if nobody knows the encoding. */
export function decode(bytes, charset = 'utf-8', name) {
  if (!iconv.encodingExists(charset)) throw new TypeError(`"${name}" is in the encoding "${charset}", which is not known`);
  return iconv.decode(bytes, charset); // without a byte order mark
}
