/** Bounds that both ends of every channel share. */

/** Largest message in either direction, bytes. Bundles (32 MiB) must pass; payloads have their own, smaller limit. */
export const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

/** Payload bytes put into one batch message; below 4 MiB, the receive limit of most gRPC clients. */
export const MAX_BATCH_BYTES = 2 * 1024 * 1024;

/** Items put into one batch message. */
export const MAX_BATCH_ITEMS = 256;

/** Items accepted in one batch message (proto: InvokeStreamRequest.items). */
export const MAX_ITEMS_ACCEPTED = 1024;
