"""
A fork server for Python sandboxes: imports packages, then makes one child for each sandbox by fork, which goes on as python-shim.py.
Started by the agent's fork-server.ts. Python 3 (3.8 or later) and its standard library only.

Speaks Node's channel between parent and child on file descriptor 3: one line of JSON per message, a file descriptor along with it
where Node expects a handle. From the agent: preload (once), fork. To the agent: preloaded, the three sockets of each
child, ended.

The server has no threads: a package that starts some when it is imported is left out, by starting over without it. Every child leads
a session of its own and dies with the server, which dies with the agent.
"""
import array
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import time

CHANNEL = 3
ROLES = (("control", 3), ("stdout", 1), ("stderr", 2))
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]
    shim = load_shim(here)
    channel = Channel()
    if len(sys.argv) > 1:
        state = json.loads(sys.argv[1])  # it started over
    else:
        state = dict(next(channel.messages(wait=True))["preload"], failed={})
    preload(channel, state)
    Server(channel, shim).run()


def load_shim(here):
    spec = importlib.util.spec_from_file_location("metronome_shim", os.path.join(here, "python-shim.py"))
    shim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shim)
    return shim


class Channel:
    def __init__(self):
        self.socket = socket.socket(fileno=CHANNEL)
        self.socket.setblocking(True)
        self.rest = b""

    def messages(self, wait=False):
        """What has arrived; ends the process when the agent is gone."""
        while True:
            chunk = self.socket.recv(65536)
            if not chunk:
                os.killpg(0, signal.SIGKILL)
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "cmd" not in message:  # acknowledgements of Node
                    yield message
            if not wait or lines:
                return

    def send(self, message, fd=None):
        if fd is not None:
            message = {"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": message}
        data = json.dumps(message).encode() + b"\n"
        handles = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        sent = self.socket.sendmsg([data], handles)
        if sent < len(data):
            self.socket.sendall(data[sent:])


def preload(channel, state):
    """Imports what is to be imported and reports how it went."""
    for folder in reversed(state["importPaths"]):
        if folder not in sys.path:
            # After the standard library, before what the node has installed.
            at = next((i for i, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))), len(sys.path))
            sys.path.insert(at, folder)
    import_ms = {}
    failed = state["failed"]
    for package in state["packages"]:
        if package["id"] in failed:
            continue
        started = time.perf_counter()
        try:
            for module in modules_of(package["name"], state["importPaths"]):
                importlib.import_module(module)
        except BaseException as thrown:  # SystemExit too: a package decides nothing here
            failed[package["id"]] = "%s: %s" % (type(thrown).__name__, str(thrown)[:500])
            continue
        if len(os.listdir("/proc/self/task")) > 1:
            failed[package["id"]] = "it starts threads when it is imported"
            os.set_inheritable(CHANNEL, True)
            os.execv(sys.executable, [sys.executable, "-s", __file__, json.dumps(state)])
        import_ms[package["id"]] = (time.perf_counter() - started) * 1000
    # What was made until now stays, and the collector need not touch (and so copy) it in every child.
    import gc

    gc.collect()
    gc.freeze()
    channel.send({"preloaded": {"importMs": import_ms, "failed": failed}, "pid": os.getpid()})


def modules_of(distribution, folders):
    """Names that an installed distribution can be imported by: PyYAML is yaml, scikit-learn is sklearn."""
    from importlib import metadata

    names = []
    for found in metadata.distributions(name=distribution, path=folders or sys.path):
        names = (found.read_text("top_level.txt") or "").split()
        if not names:
            tops = {str(path).split("/")[0] for path in found.files or [] if str(path).endswith((".py", ".so"))}
            names = sorted(top.split(".")[0] for top in tops if not top.endswith((".dist-info", ".data", "..")))
        break
    public = [name for name in names if not name.startswith("_") and name.replace("/", "_").isidentifier()]
    return public or names or [distribution.replace("-", "_")]


class Server:
    def __init__(self, channel, shim):
        self.channel = channel
        self.shim = shim
        self.children = {}  # pid to the number of the fork
        self.prctl = find_prctl()
        # Children are the function's: they must not read the server's memory or take its descriptors.
        self.prctl(PR_SET_DUMPABLE, 0)
        # What a function leaves behind becomes its own process's child, however it hid, and at its end the server's, which ends it.
        self.prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.helpers = children_of_this()  # of packages, from their import
        # A byte in this pipe says that a child has ended.
        self.wakeup, wakeup_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.wakeup_end = wakeup_end
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)

    def run(self):
        while True:
            readable, _, _ = select.select([self.channel.socket, self.wakeup], [], [])
            if self.wakeup in readable:
                os.read(self.wakeup, 512)
                self.reap()
            if self.channel.socket in readable:
                for message in self.channel.messages():
                    self.fork(message["fork"])

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            if pid not in self.children:
                continue
            number = self.children.pop(pid)
            by_signal = os.WIFSIGNALED(status)
            self.channel.send({"ended": number, "code": None if by_signal else os.WEXITSTATUS(status), "signal": signal.Signals(os.WTERMSIG(status)).name if by_signal else None})

        for left in children_of_this() - self.helpers - self.children.keys():
            try:
                os.kill(left, signal.SIGKILL)
            except OSError:
                pass  # it ended, or it is another user's now

    def fork(self, number):
        pairs = []
        try:
            for _ in ROLES:
                pairs.append(socket.socketpair())
            flush()
            server = os.getpid()
            pid = os.fork()
        except OSError as error:
            for ours, theirs in pairs:
                ours.close()
                theirs.close()
            self.channel.send({"fork": number, "forkFailed": str(error)})
            return
        if pid == 0:
            self.become_child(server, pairs)
            self.shim.main()  # never returns; an exception (sys.exit of the function too) ends the process, as it would end a spawned one
        self.children[pid] = number
        for (role, _), (ours, theirs) in zip(ROLES, pairs):
            self.channel.send({"fork": number, "role": role, "pid": pid}, ours.fileno())
            ours.close()
            theirs.close()

    def become_child(self, server, pairs):
        os.setsid()
        self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        self.prctl(PR_SET_DUMPABLE, 1)
        self.prctl(PR_SET_CHILD_SUBREAPER, 1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self.wakeup)
        os.close(self.wakeup_end)
        for (_, target), (ours, theirs) in zip(ROLES, pairs):
            ours.close()
            os.dup2(theirs.fileno(), target)
            theirs.close()
        self.channel.socket.detach()  # its descriptor is the child's own channel now


def children_of_this():
    try:
        with open("/proc/self/task/%d/children" % os.getpid()) as file:
            return set(map(int, file.read().split()))
    except OSError:
        return set()  # a kernel that does not list them


def find_prctl():
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except Exception:
        return lambda *_: -1  # a C library without it: children still end with their channel


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass


if __name__ == "__main__":
    main()
