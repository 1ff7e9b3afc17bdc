"""The test behind selftest.sh: plays modules against one binary, natively or under qemu-user.

It shares nothing with the server or its own tests: requests are bytes, replies are taken apart here.
For test-small.sh, the environment may name a program that is to launch the server (SELFTEST_LAUNCHER), and
another state folder (SELFTEST_STATE).
"""
import itertools
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

# Longer than anything takes, on a busy machine, under emulation.
PATIENCE = 60
IMEI = "862991443753386"
PACKET = 1022
# ELF: (machine, little endian) to qemu's name and the CPU of the least machine that is to run it.
EMULATORS = {
    (62, True): ("x86_64", None),
    (183, True): ("aarch64", "cortex-a53"),
    (40, True): ("arm", None),
    (8, True): ("mipsel", "24KEc"),
    (8, False): ("mips", "24Kc"),
}


class Failed(Exception):
    """What was not as it must be."""


def ensure(condition, text):
    if not condition:
        raise Failed(text)


# Where an emulator puts the memory of what it runs.
GUEST = 0x200000000000


def memory(process, how):
    """Resident kilobytes, and how many of them are not the file's."""
    if how == "natively":
        lines = pathlib.Path(f"/proc/{process}/status").read_text()
        return [int(re.search(rf"{name}:\s+(\d+) kB", lines)[1]) for name in ("VmRSS", "RssAnon")]
    total = own = 0
    for line in pathlib.Path(f"/proc/{process}/smaps").read_text().splitlines():
        if mapping := re.match(r"([0-9a-f]+)-[0-9a-f]+ ", line):
            is_guests = GUEST <= int(mapping[1], 16) < GUEST + (1 << 40)
        elif is_guests and line.startswith("Rss:"):
            total += int(line.split()[1])
        elif is_guests and line.startswith("Anonymous:"):
            own += int(line.split()[1])
    return total, own


def runner(binary):
    """How to run it: nothing, or qemu with a CPU."""
    head = pathlib.Path(binary).read_bytes()[:20]
    if head[:4] != b"\x7fELF":
        sys.exit(f"selftest: {binary} is no program for Linux")
    little = head[5] == 1
    machine = int.from_bytes(head[18:20], "little" if little else "big")
    if (machine, little) not in EMULATORS:
        sys.exit(f"selftest: no emulator is known for the machine (ELF number {machine}) of {binary}")
    name, cpu = EMULATORS[machine, little]
    if name == platform.machine():
        return [], "natively"
    if name == "arm":
        cpu = "arm1176" if "armv6" in pathlib.Path(binary).name or "arm-" in binary else "cortex-a7"
    qemu = shutil.which(f"qemu-{name}-static")
    if not qemu:
        sys.exit(f"selftest: qemu-{name}-static is missing; as root: apt-get install qemu-user-static")
    cpu = os.environ.get("QEMU_CPU", cpu)
    # The program's memory from one address on, away from the emulator's own.
    place = ["-B", hex(GUEST)] + (["-R", "0x8000000000"] if name == "aarch64" else [])
    return [qemu, *place, *(["-cpu", cpu] if cpu else [])], f"under {pathlib.Path(qemu).name}, CPU {cpu or 'as it is'}"


def noise(seed, size):
    """Bytes that no other seed gives, and that are no text."""
    out, state = bytearray(), seed * 2654435761 % 2**32 | 1
    while len(out) < size:
        state = (state * 1664525 + 1013904223) % 2**32
        out += state.to_bytes(4, "little")
    out[0] = 0xFE
    return bytes(out[:size])


class Server:
    """A running one; what it writes is kept."""

    def __init__(self, command, folder, state, *flags):
        self.lines, self.more = [], threading.Condition()
        words = ["serve", str(folder), "--state", str(state), "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]
        # A free port for the operator too, in the binaries that have one.
        if b"--operator-token" in pathlib.Path(command[-1]).read_bytes():
            words += ["--operator", "127.0.0.1:0"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LUAT_OTA_")}
        self.process = subprocess.Popen(
            [*command, *words, *flags], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        )
        servers.append(self)
        threading.Thread(target=self.read, daemon=True).start()
        try:
            self.wait_for_line(r" ready ready$")
        except Failed:
            raise Failed("it does not start; it wrote:\n" + "\n".join(self.lines)) from None
        port = lambda kind: int(self.wait_for_line(rf" proto={kind} address=127\.0\.0\.1:(\d+)$").group(1))
        self.http, self.udp, self.tcp = port("http"), port("udp"), port("tcp")

    def read(self):
        for line in self.process.stderr:
            with self.more:
                self.lines.append(line.decode("utf-8", "replace").rstrip())
                self.more.notify_all()
        with self.more:
            self.lines.append("(the end)")
            self.more.notify_all()

    def wait_for_line(self, pattern):
        end = time.monotonic() + PATIENCE
        with self.more:
            while True:
                for line in self.lines:
                    if found := re.search(pattern, line):
                        return found
                ensure("(the end)" not in self.lines, f"it ended before a line like {pattern}")
                ensure(self.more.wait(end - time.monotonic()), f"no line like {pattern}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, target, headers="", method="GET"):
        """One request; status, headers, body."""
        return Download(self, target, headers, method).finish()

    def wait_for(self, target, fits, what):
        """Asks until the reply fits, each time for another `target()`: one that has begun a file is given
        the same on and on."""
        end = time.monotonic() + PATIENCE
        while True:
            reply = self.ask(target())
            if fits(reply):
                return reply
            ensure(time.monotonic() < end, f"{what}; the last reply was {reply[0]} with {len(reply[2])} bytes")
            time.sleep(0.05)

    def wait_until_offered(self, target, data):
        return self.wait_for(target, lambda reply: reply[0] == 200 and reply[2] == data, "it is not offered")


class Download:
    """A request whose reply is read bit by bit."""

    def __init__(self, server, target, headers="", method="GET"):
        self.raw = b""
        self.stream = socket.socket()
        # Small, or the kernel takes the file before we read a byte.
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.stream.settimeout(PATIENCE)
        self.stream.connect(("127.0.0.1", server.http))
        self.stream.sendall(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())

    def read(self, least):
        while len(self.raw) < least:
            part = self.stream.recv(4096)
            if not part:
                return
            self.raw += part

    def finish(self):
        parts = [self.raw]
        while part := self.stream.recv(65536):
            parts.append(part)
        self.stream.close()
        head, gap, body = b"".join(parts).partition(b"\r\n\r\n")
        ensure(gap, f"no reply but {head[:80]!r}")
        first, *lines = head.decode("latin-1").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z ]+", first)
        ensure(found, f"the status line is {first!r}")
        headers = dict(re.fullmatch(r"([A-Za-z-]+): (.+)", line).groups() for line in lines)
        ensure(headers.get("Connection") == "close", f"no Connection: close in {headers}")
        ensure(headers.get("Content-Length") == str(len(body)), f"{len(body)} bytes with {headers}")
        return int(found[1]), headers, body


class Module:
    """One of the first edition."""

    def __init__(self, server):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", server.udp))
        self.socket.settimeout(5)

    def ask(self, message):
        for _ in range(5):
            self.socket.send(message.encode())
            try:
                return self.socket.recv(2048)
            except TimeoutError:
                pass
        raise Failed(f"{message} gets no answer")

    def check(self, version="1.0.0"):
        answer = self.ask(f"{IMEI},P_Luat_V0035_8955,{version}")
        found = re.fullmatch(rb"LUAUPDATE,(\d+),(\d+),(\d+)", answer)
        ensure(found, f"the check gets {answer!r}")
        return tuple(int(number) for number in found.groups())

    def download(self, offer, data, first=1):
        number, count, last = offer
        ensure((count - 1) * PACKET + last == len(data) and 1 <= last <= PACKET, f"{offer} for {len(data)} bytes")
        for index in range(first, count + 1):
            packet = self.ask(f"Get{index},{number}")
            wanted = index.to_bytes(2, "big") + data[(index - 1) * PACKET :][: last if index == count else PACKET]
            ensure(packet == wanted, f"packet {index} is wrong: {packet[:20]!r}")


def update(project="P", version="1.0.0"):
    """What a module asks for over HTTP. Each time another module: one that gets the same file again and
    again and never has it would be held back from it."""
    name = f"{project}_Luat_V0017_ASR1802"
    return f"/luat/update?project_key=k&imei={next(imeis)}&device_key=&firmware_name={name}&version={version}"


def drop(folder, path, data):
    path = folder / path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.rename(path)


imeis = map(str, itertools.count(862991443760000))
servers = []
results = []


def step(name, action, *arguments):
    """Runs one part and writes its line; what it gives, or None if it failed."""
    start = time.monotonic()
    try:
        value = action(*arguments)
        # Its own word on what it saw.
        note = f": {value}" if isinstance(value, str) else ""
        print(f"PASS  {name} ({time.monotonic() - start:.1f} s){note}", flush=True)
        results.append(True)
        return value
    except (Failed, OSError, AttributeError, subprocess.SubprocessError) as error:
        print(f"FAIL  {name}: {error}", flush=True)
        results.append(False)
        return None


def run(command, how, place):
    folder, state = place / "firmware", pathlib.Path(os.environ.get("SELFTEST_STATE", place / "state"))
    folder.mkdir()
    first, second, large = noise(1, 50_000), noise(2, 10 * PACKET), noise(3, 4 << 20)

    def version():
        done = subprocess.run([*command, "-V"], capture_output=True, timeout=PATIENCE, check=True)
        ensure(re.fullmatch(rb"luat-ota \d+\.\d+\.\d+\n", done.stdout), f"it wrote {done.stdout!r}")
        return done.stdout.decode().strip()

    step("prints its version", version)
    server = step("starts and is ready", Server, command, folder, state)
    if not server:
        return

    def http_update():
        drop(folder, "P/1.0.1/update.bin", first)
        server.wait_until_offered(lambda: update(), first)
        status, _, _ = server.ask(update(version="1.0.1"))
        ensure(status == 404, f"the newest gets {status}")
        status, _, _ = server.ask(update(project="Q"))
        ensure(status in (403, 404), f"another project gets {status}")

    step("offers a file that is dropped into the folder, and nothing to who has it", http_update)

    total, own = memory(server.process.pid, how)
    print(f"      memory, idle after one update: {total} kB, of which {own} kB are not the file's", flush=True)

    def luatos_update():
        drop(folder, "S/1.0.2/update.bin", second)
        target = lambda: f"/upgrade?imei={next(imeis)}&project_key=k&firmware_name=S_LuatOS-SoC_ESP32C3&version=1.0.1"
        server.wait_until_offered(target, second)

    step("the same for a LuatOS module", luatos_update)

    def resume():
        _, headers, _ = server.ask(update())
        tag = headers["ETag"]
        for start in (0, 1, 20_000, len(first) - 1):
            for condition in ("", f"If-Range: {tag}\r\n"):
                target = update()
                cut = Download(server, target)
                cut.read(1000)
                cut.stream.close()
                status, headers, body = server.ask(target, f"Range: bytes={start}-\r\n{condition}")
                where = f"bytes {start}-{len(first) - 1}/{len(first)}"
                ensure(status == 206 and headers["Content-Range"] == where, f"{status} {headers} for {start}-")
                ensure(body == first[start:], f"other bytes from {start} on")
        status, _, body = server.ask(update(), 'Range: bytes=20000-\r\nIf-Range: "another"\r\n')
        ensure((status, body) == (200, first), f"with the ETag of other bytes: {status}")
        return tag

    tag = step("resumes with Range and If-Range", resume)

    def udp_update():
        module = Module(server)
        offer = module.check()
        module.download(offer, first)
        ensure(module.ask(f"Get1,{offer[0] ^ 1}") == b"ERR", "a wrong id gets no ERR")
        ensure(module.ask(f"Get0,{offer[0]}") == b"ERR", "packet 0 gets no ERR")
        ensure(module.ask(f"Get{offer[1] + 1},{offer[0]}") == b"ERR", "a packet behind the last gets no ERR")
        answer = module.ask(f"{IMEI},P_Luat_V0035_8955,1.0.1")
        ensure(answer and b"LUAUPDATE" not in answer, f"the newest gets {answer!r}")
        return offer

    offer = step("updates over UDP; wrong ids and numbers get ERR", udp_update)

    def tcp_update():
        with socket.create_connection(("127.0.0.1", server.tcp), PATIENCE) as stream:
            stream.sendall(f"{IMEI},S_Luat_V0035_8955,1.0.0".encode())
            found = re.fullmatch(rb"LUAUPDATE,(\d+),10,1022", stream.recv(2048))
            ensure(found, "the check gets no offer")
            stream.sendall(b"Get10,%s" % found[1])
            got = b""
            while len(got) < 2 + PACKET:
                part = stream.recv(2048)
                ensure(part, "closed early")
                got += part
            ensure(got == b"\0\x0a" + second[9 * PACKET :], "other bytes")

    step("the same over TCP, with a file of full packets", tcp_update)

    def replace():
        drop(folder, "L/1.0.1/update.bin", large)
        server.wait_until_offered(lambda: update("L"), large)
        path, new = folder / "L/1.0.1/update.bin", noise(4, 3 << 20)
        slow = [Download(server, update("L")) for _ in range(3)]
        for download in slow:
            download.read(10_000)
        with path.open("r+b") as file:
            file.write(new)
            file.truncate()
        for number, download in enumerate(slow):
            status, _, body = download.finish()
            ensure((status, body) == (200, large), f"download {number}: {status}, {len(body)} bytes, not the old ones")
        server.wait_until_offered(lambda: update("L"), new)
        ensure(server.process.poll() is None, "the server died")

    step("downloads that run keep the old bytes when the file is overwritten in place", replace)

    def killed():
        # A module in the middle of a file when a newer one comes and the power goes, with no ETag to ask with.
        middle, newer = noise(5, 4 << 20), noise(6, 700_000)
        pins = lambda: (state / "journal.jsonl").read_text().count('{"pin"')
        before, end = pins(), time.monotonic() + PATIENCE
        drop(folder, "R/1.0.1/update.bin", middle)
        server.wait_until_offered(lambda: update("R"), middle)
        target = update("R")
        cut = Download(server, target)
        cut.read(200_000)
        # That of who waited for the file, and this one.
        while pins() < before + 2:
            ensure(time.monotonic() < end, "what it has begun is not in the journal")
            time.sleep(0.05)
        cut.stream.close()
        drop(folder, "R/1.0.2/update.bin", newer)
        server.wait_until_offered(lambda: update("R"), newer)
        server.kill()
        again = Server(command, folder, state)
        again.wait_until_offered(lambda: update(), first)
        status, headers, body = again.ask(update(), f"Range: bytes=30000-\r\nIf-Range: {tag}\r\n")
        ensure((status, body) == (206, first[30000:]), f"resumed after the restart: {status} {headers}")
        Module(again).download(offer, first, first=20)
        again.wait_until_offered(lambda: update("R"), newer)
        # Both are a moment old, and read again in any order; until then the module is told to come back (503).
        end = time.monotonic() + PATIENCE
        while (reply := again.ask(target, "Range: bytes=150000-\r\n"))[0] in (416, 503) and time.monotonic() < end:
            time.sleep(0.2)
        status, headers, body = reply
        ensure((status, body) == (206, middle[150_000:]), f"not the rest of what it began: {status} {headers}")
        return again

    name = "after kill -9 and a restart, HTTP and UDP downloads go on where they were, in the file that they began"
    server = step(name, killed)
    if not server:
        return

    def stopped():
        large = (folder / "L/1.0.1/update.bin").read_bytes()
        server.wait_until_offered(lambda: update("L"), large)
        slow = Download(server, update("L"))
        slow.read(10_000)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line("running downloads may finish")
        try:
            socket.create_connection(("127.0.0.1", server.http), 5).close()
            accepted = True
        except OSError:
            accepted = False
        ensure(not accepted, "it still takes connections")
        status, _, body = slow.finish()
        ensure((status, body) == (200, large), f"the running download: {status}, {len(body)} bytes")
        code = server.process.wait(PATIENCE)
        ensure(code == 0, f"exit status {code}")

    step("on SIGTERM the running download finishes, and it ends with status 0", stopped)

    def quiet():
        lines = [line for one in servers for line in one.lines if " ERROR " in line or "panicked" in line]
        ensure(not lines, "; ".join(lines))

    step("wrote no error into its log", quiet)


def main():
    binary = os.path.abspath(sys.argv[1])
    command, words = runner(binary)
    print(f"{binary}, {os.path.getsize(binary)} bytes, {words}", flush=True)
    place = pathlib.Path(tempfile.mkdtemp(prefix="luat-ota-selftest-"))
    try:
        run([*os.environ.get("SELFTEST_LAUNCHER", "").split(), *command, binary], words, place)
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.kill()
        shutil.rmtree(place, ignore_errors=True)
    failed = results.count(False)
    if failed:
        for number, server in enumerate(servers):
            print(f"--- the last lines of server {number + 1}:", *server.lines[-15:], sep="\n")
    print(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
