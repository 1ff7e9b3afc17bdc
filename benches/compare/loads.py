"""What is done to the servers."""

import json
import os
import re
import resource
import socket
import subprocess
import time

from processes import EVERYWHERE, LOAD_SIDE, MeasureError

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def _run(command, seconds, where=LOAD_SIDE):
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            preexec_fn=lambda: os.sched_setaffinity(0, where),
        )
    except subprocess.TimeoutExpired:
        raise MeasureError(f"{command[0]} did not end within {seconds} s") from None
    if done.returncode != 0:
        raise MeasureError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Load:
    """One run: what was done, and the CPU seconds that the server took for it."""

    def __init__(self, server, run):
        before, began = server.cpu(), time.monotonic()
        self.done = run()
        self.cpu = server.cpu() - before
        self.took = time.monotonic() - began


def wrk(server, target, connections, seconds, length):
    """Connections that ask once each. `length`: bytes of the body, to be sure that we get what we think."""

    def run():
        text = _run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s"]
            + ["-H", "Connection: close", f"http://127.0.0.1:{server.port}{target}"],
            seconds + 60,
        )
        requests, taken, read, unit = re.search(
            r"(\d+) requests in ([\d.]+)s, ([\d.]+)([KMG]?)B read", text
        ).groups()
        requests = int(requests)
        read = float(read) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[unit]
        if requests == 0:
            raise MeasureError(f"{server.name} answered nothing")
        # wrk counts what the last, cut, replies brought as well.
        if read < 0.9 * requests * length:
            raise MeasureError(f"{server.name} sent {read:.0f} bytes for {requests} requests of {length}")
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        latency = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+(?:us|ms|s))$", text, re.M))
        return {
            "requests": requests,
            "bytes": read,
            "per_second": requests / float(taken),
            "bytes_per_second": read / float(taken),
            "p50_ms": _milliseconds(latency.get("50")),
            "p99_ms": _milliseconds(latency.get("99")),
            "errors": sum(map(int, errors.groups())) if errors else 0,
        }

    return Load(server, run)


def _milliseconds(text):
    if text is None:
        return None
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * _UNITS[unit]


def datagrams(server, built, port, message, file, sockets, window, seconds, where=LOAD_SIDE):
    """Downloads over UDP; every reply was compared."""

    def run():
        command = [built / "datagrams", port, message, file, sockets, window, seconds]
        done = json.loads(_run(command, seconds + 60, where))
        done["per_second"] = done["replies"] / done["seconds"]
        return done

    return Load(server, run)


def tftp(server, built, name, file):
    return Load(
        server,
        lambda: json.loads(_run([built / "tftp", server.port, name, file, 1024], 60, EVERYWHERE)),
    )


def raise_file_limit():
    """Raises the limit of open files as far as it goes; how many there may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Connections:
    """Many connections, each of which has sent some bytes and reads nothing."""

    def __init__(self, server, count, sent, receive_buffer=None):
        self.open = []
        try:
            for _ in range(count):
                one = socket.socket()
                self.open.append(one)
                if receive_buffer:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
                one.settimeout(10)
                one.connect(("127.0.0.1", server.port))
                one.sendall(sent)
        except OSError as error:
            self.close()
            raise MeasureError(f"{server.name} takes no more than {len(self.open)} connections: {error}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for one in self.open:
            # A reset: neither side has to wait for the other, and nothing stays in TIME_WAIT.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()
        self.open.clear()

    def check_open(self):
        """All of them are still connected, and have been sent nothing."""
        for one in self.open:
            one.setblocking(False)
            try:
                got = one.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise MeasureError(f"a connection is not open any more: {error}") from None
            raise MeasureError("a connection was closed" if got == b"" else "a connection was answered")


def wait_until_stable(read, timeout=20.0, interval=0.25, tolerance=256 << 10):
    """Reads a number of bytes until it has moved by no more than the tolerance for a second."""
    last, stable, end = read(), 0, time.monotonic() + timeout
    while stable < 4 and time.monotonic() < end:
        time.sleep(interval)
        new = read()
        stable = stable + 1 if abs(new - last) <= tolerance else 0
        last = new
    return last

