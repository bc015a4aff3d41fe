/** Messages as callers like to write them: every field may be left out and gets its default. */

type Leaf = Uint8Array | string | number | boolean | undefined;

/** T with every field optional, at every depth. */
export type PartialMessage<T> = T extends Leaf
  ? T
  : T extends readonly (infer Element)[]
    ? readonly PartialMessage<Element>[]
    : { readonly [Field in keyof T]?: PartialMessage<T[Field]> | undefined };

/** The part of a generated message object that fills in defaults. */
export interface MessageCodec<T> {
  fromPartial(object: never): T;
}

/** The full message. Does not copy bytes. */
export function completeMessage<T>(codec: MessageCodec<T>, partial: PartialMessage<NoInfer<T>>): T {
  // The generated signature only adds a check against unknown fields, which PartialMessage makes as well.
  return codec.fromPartial(partial as never);
}
