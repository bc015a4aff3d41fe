"""
Runs inside the sandbox of a Python function: loads the handler, then runs it whenever the agent says so.
Started by the agent's sandbox driver. Python 3 (3.8 or later) and its standard library only.

The contract of a handler
    def handler(event, context): ...        # "handler.py"; "handler.py#run" names another function; it may be async

event    application/json (or ...+json): the parsed value, None when the payload is empty. Any other content type: bytes.
context  invocation_id, attempt (1 is the first), function (name), deadline_ms (ms since 1970), remaining_ms(), traceparent
         content_type  media type of the payload
         inputs        list of inputs with id, name, path, size_bytes (attributes or keys): local files, to be read only
         output(name)  absolute path to write an output object to; every file in that directory becomes an object after the return
         The camelCase names of the Node contract (invocationId, remainingMs(), sizeBytes, ...) work as well.
returns  None: an empty payload of type application/json, which readers take as null
         bytes, bytearray, memoryview: application/octet-stream
         anything else: JSON, application/json
raises   the caller gets type, message and traceback; the sandbox stays in use. sys.exit() ends the sandbox.

stdout and stderr are captured per run. A sandbox runs one invocation at a time; module state survives between runs.
Protocol: src/agent/sandbox/sandbox-frames.ts, on file descriptor 3.
"""
import json
import os
import re
import signal
import struct
import sys
import time

CONTROL = 3
JSON_TYPE = re.compile(r"application/(json|[\w.-]+\+json)\s*(;|$)", re.I)
# Address space that a function may have beyond its memory limit (threads' stacks, allocator arenas). The agent watches
# the resident memory and ends the sandbox at the limit; this one turns a single huge allocation into a MemoryError.
HEADROOM_BYTES = 160 * 1024 * 1024


def main():
    os.set_inheritable(CONTROL, False)
    # The folder of this file is none of the function's business.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]
    frame = receive()
    started = time.perf_counter()
    handler = None
    try:
        if frame["adoption"] is not None:
            adopt(frame["adoption"])
        limit_memory(frame["memoryMb"])
        handler = load(frame)
    except SystemExit:
        raise
    except BaseException as thrown:
        send(dict({"kind": "loadFailed"}, **describe(thrown)))
    if handler is not None:
        flush()
        send({"kind": "ready", "loadMs": elapsed(started)})
    while True:
        run(handler, receive(), frame["functionName"], frame["maxResultBytes"])


def adopt(adoption):
    """A process that was forked becomes the function's: as if it had been started with its environment."""
    os.environ.clear()
    os.environ.update(adoption["env"])
    time.tzset()
    os.makedirs(adoption["workDir"], exist_ok=True)
    os.chdir(adoption["workDir"])
    loaded = sys.modules.get
    if loaded("tempfile"):
        loaded("tempfile").tempdir = None
    # Its siblings began with the same state. (The module "random" sees to that itself.)
    if loaded("numpy.random"):
        loaded("numpy.random").seed()


def limit_memory(memory_mb):
    import resource

    limit = memory_mb * 1024 * 1024 + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def load(frame):
    import importlib.util

    path = frame["file"]
    # After the standard library, before what the node has installed.
    at = next((i for i, folder in enumerate(sys.path) if folder.endswith(("site-packages", "dist-packages"))), len(sys.path))
    sys.path[at:at] = [folder for folder in frame["importPaths"] if folder not in sys.path]
    for folder in (frame["bundleDir"], os.path.dirname(path)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    name = re.sub(r"\W", "_", os.path.splitext(os.path.basename(path))[0])
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    handler = getattr(module, frame["exportName"], None)
    if not callable(handler):
        names = ", ".join(key for key, value in vars(module).items() if callable(value) and not key.startswith("_")) or "nothing"
        raise AttributeError('The module has no function "%s". It has: %s.' % (frame["exportName"], names))
    return handler


ALIASES = {"invocationId": "invocation_id", "deadlineMs": "deadline_ms", "remainingMs": "remaining_ms", "contentType": "content_type"}


class Input(dict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Context:
    def __init__(self, frame, function):
        self.invocation_id = frame["invocationId"]
        self.attempt = frame["attempt"]
        self.function = function
        self.deadline_ms = frame["deadlineUnixMs"]
        self.traceparent = frame["traceparent"]
        self.content_type = frame["contentType"]
        self.inputs = [Input(item, size_bytes=item["sizeBytes"]) for item in frame["inputs"]]
        self._output_dir = frame["outputDir"]
        self._has_outputs = False

    def __getattr__(self, name):
        if name in ALIASES:
            return getattr(self, ALIASES[name])
        raise AttributeError(name)

    def remaining_ms(self):
        return max(0.0, self.deadline_ms - time.time() * 1000)

    def output(self, name):
        if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
            raise ValueError("An output needs a plain file name of at most 255 bytes, not %r." % (name,))
        if not self._has_outputs:
            os.makedirs(self._output_dir, exist_ok=True)
            self._has_outputs = True
        return os.path.join(self._output_dir, name)


def run(handler, frame, function, max_result_bytes):
    seq = frame["seq"]
    context = Context(frame, function)
    started = time.perf_counter()
    try:
        payload = frame["payload"]
        if JSON_TYPE.match(frame["contentType"]):
            event = json.loads(payload) if payload else None
        else:
            event = payload
        result = handler(event, context)
        if hasattr(result, "__await__"):
            import asyncio

            async def wait():
                return await result

            result = asyncio.run(wait())
        content_type, payload = encode(result)
    except SystemExit:
        raise
    except BaseException as thrown:
        answer = dict({"kind": "failed", "seq": seq, "ranMs": elapsed(started)}, **describe(thrown))
    else:
        ran_ms = elapsed(started)
        if len(payload) > max_result_bytes:
            answer = {"kind": "tooLarge", "seq": seq, "ranMs": ran_ms, "sizeBytes": len(payload)}
        else:
            answer = {"kind": "done", "seq": seq, "ranMs": ran_ms, "hasOutputs": context._has_outputs, "contentType": content_type, "payload": payload}
    # What was printed must be in the pipes before the agent hears of the end.
    flush()
    send(answer)


def encode(result):
    if result is None:
        return "application/json", b""
    if isinstance(result, (bytes, bytearray, memoryview)):
        return "application/octet-stream", bytes(result)
    try:
        return "application/json", json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8; JSON escapes can carry them.
        return "application/json", json.dumps(result, allow_nan=False, separators=(",", ":")).encode("ascii")


def describe(thrown):
    import traceback

    try:
        stack = "".join(traceback.format_exception(type(thrown), thrown, thrown.__traceback__))
    except BaseException:
        stack = ""
    return {"type": type(thrown).__name__[:255], "message": text(thrown)[:8192], "stack": stack[-16384:]}


def text(thrown):
    try:
        return str(thrown)
    except BaseException:
        return ""


def elapsed(started):
    return (time.perf_counter() - started) * 1000


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass  # the function closed it


# The frames.


def receive():
    (length,) = struct.unpack(">I", read_exactly(4))
    return unpack(memoryview(read_exactly(length)), [0])


def read_exactly(length):
    parts = bytearray()
    while len(parts) < length:
        chunk = os.read(CONTROL, min(length - len(parts), 1 << 20))
        if not chunk:
            # The agent is gone: so is this sandbox, with the children that it started.
            os.killpg(0, signal.SIGKILL)
        parts += chunk
    return bytes(parts)


def send(message):
    body = bytearray()
    pack(message, body)
    view = memoryview(struct.pack(">I", len(body)) + body)
    while view:
        view = view[os.write(CONTROL, view):]


def pack(value, out):
    if value is None:
        out.append(0xC0)
    elif value is True:
        out.append(0xC3)
    elif value is False:
        out.append(0xC2)
    elif isinstance(value, int) and 0 <= value < 128:
        out.append(value)
    elif isinstance(value, (int, float)):
        out += struct.pack(">Bd", 0xCB, value)
    elif isinstance(value, str):
        data = value.encode("utf-8", "replace")
        out += struct.pack(">BI", 0xDB, len(data)) + data
    elif isinstance(value, bytes):
        out += struct.pack(">BI", 0xC6, len(value))
        out += value
    else:
        out.append(0x80 | len(value))  # frames have fewer than 16 fields
        for key, field in value.items():
            pack(key, out)
            pack(field, out)


NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}


def unpack(data, at):
    def number(form):
        (value,) = struct.unpack_from(form, data, at[0])
        at[0] += struct.calcsize(form)
        return value

    def take(length):
        at[0] += length
        return bytes(data[at[0] - length:at[0]])

    tag = number(">B")
    if tag < 0x80:
        return tag
    if tag >= 0xE0:
        return tag - 256
    if tag < 0x90:
        kind, length = "map", tag & 15
    elif tag < 0xA0:
        kind, length = "list", tag & 15
    elif tag < 0xC0:
        kind, length = "str", tag & 31
    elif tag in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
    elif tag in NUMBERS:
        return number(NUMBERS[tag])
    elif tag in LENGTHS:
        kind, length = ("bin", "str", "list", "map")[(tag >= 0xD9) + (tag >= 0xDC) + (tag >= 0xDE)], number(LENGTHS[tag])
    else:
        raise ValueError("msgpack tag %d is not part of the protocol" % tag)
    if kind == "bin":
        return take(length)
    if kind == "str":
        return take(length).decode("utf-8")
    if kind == "list":
        return [unpack(data, at) for _ in range(length)]
    result = {}
    for _ in range(length):
        key = unpack(data, at)
        result[key] = unpack(data, at)
    return result


if __name__ == "__main__":
    main()
