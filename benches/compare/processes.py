"""Servers as processes: started on free loopback ports, their CPU and memory read from /proc, and stopped by
their own process id."""

import os
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

# With two processors or more, servers run on the first and loads on the second: then neither is moved about,
# and both sides of a ratio have the same.
_PROCESSORS = sorted(os.sched_getaffinity(0))
SERVER_SIDE = {_PROCESSORS[0]}
LOAD_SIDE = {_PROCESSORS[1]} if len(_PROCESSORS) > 1 else SERVER_SIDE
EVERYWHERE = set(_PROCESSORS)


class MeasureError(Exception):
    """A sentence: why a row could not be measured."""


def free_port():
    """A port that is free over TCP and over UDP."""
    while True:
        with socket.socket(socket.AF_INET) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return tcp.getsockname()[1]


def wait_until(what, seconds, condition, process=None):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = condition()
        if got:
            return got
        if process is not None and process.poll() is not None:
            raise MeasureError(f"{what}: {process.args[0]} has ended with {process.returncode}")
        time.sleep(0.005)
    raise MeasureError(f"{what}: not within {seconds} s")


def _stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        # The name may hold spaces and brackets.
        return file.read().rpartition(")")[2].split()


def _status(pid, key):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1])
    return 0


class Server:
    """A running server: its own process and those it started."""

    def __init__(self, name, command, port, where=SERVER_SIDE, log=subprocess.DEVNULL):
        self.name, self.port = name, port
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=lambda: os.sched_setaffinity(0, where),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process.wait()

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def processes(self):
        """Its process and their children's children."""
        found, new = [], [self.process.pid]
        while new:
            pid = new.pop()
            found.append(pid)
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children") as file:
                        new.extend(int(child) for child in file.read().split())
            except OSError:
                pass
        return found

    def cpu(self):
        """CPU seconds of all threads of all its processes so far."""
        ticks = 0
        for pid in self.processes():
            try:
                fields = _stat(pid)
            except OSError:
                continue  # a child that has ended
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def anonymous(self):
        """Bytes of anonymous memory that are resident."""
        return sum(_status(pid, "RssAnon") for pid in self.processes()) * 1024

    def wake_ups(self):
        """How often its threads went to sleep by themselves so far: once for each time they woke up."""
        total = 0
        for pid in self.processes():
            for task in os.listdir(f"/proc/{pid}/task"):
                total += _status(f"{pid}/task/{task}", "voluntary_ctxt_switches")
        return total


def available_memory():
    """MemAvailable in bytes."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise MeasureError("/proc/meminfo does not say MemAvailable")


def fetch(port, target, timeout=5):
    """The whole reply to a GET, as bytes, or None if there is nobody yet."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as one:
            one.sendall(request(target))
            parts = []
            while part := one.recv(65536):
                parts.append(part)
            return b"".join(parts)
    except OSError:
        return None


def request(target):
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
