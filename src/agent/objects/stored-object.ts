/** What an object is called and where it lies. */

/** An object that is here. */
export interface StoredObject {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** SHA-256, lower-case hex. */
  readonly digest: string;
  /** The file. Never write to it. */
  readonly path: string;
}

const ID_PATTERN = /^[A-Za-z0-9._-]{1,128}$/;

/** True for an id that may become a file name. */
export function isObjectId(id: string): boolean {
  return ID_PATTERN.test(id) && id !== '.' && id !== '..';
}

/** True for a name that an object may have. */
export function isObjectName(name: string): boolean {
  return name === '' || (Buffer.byteLength(name) <= 255 && !/[/\\\0]/.test(name) && name !== '.' && name !== '..');
}
