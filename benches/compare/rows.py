"""The rows of the table: each group measures one kind of work and gives its rows."""

import os
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import zlib
from pathlib import Path

import loads
from peers import KIB, MIB, Peers, Place, message, noise, target
from processes import MeasureError, available_memory, fetch, request, wait_until

PER = 100_000  # requests
GB = 1e9  # bytes


class Row:
    """One line of the table. `value` is a ratio (ours / theirs) where `against` is given, else a measure with its
    `unit`."""

    def __init__(self, work, against, value, must, aim, unit="", ours="", theirs="", holds=None, aims=None, **more):
        self.work, self.against, self.value, self.unit = work, against, value, unit
        self.ours, self.theirs, self.more = ours, theirs, more
        self.must, self.aim = _words(must), _words(aim)
        self.holds = value <= must if holds is None and _number(must) else holds
        self.aims = value <= aim if aims is None and _number(aim) else aims

    def json(self):
        value = {"ratio" if self.against and not self.unit else "value": round(self.value, 4)}
        if self.unit:
            value["unit"] = self.unit
        return {
            "work": self.work,
            "against": self.against,
            **value,
            "goal": self.must,
            "holds": self.holds,
            "aim": self.aim,
            "aim_holds": self.aims,
            "ours": self.ours,
            "theirs": self.theirs,
            **self.more,
        }


def _number(goal):
    return isinstance(goal, (int, float))


def _words(goal):
    if not _number(goal):
        return goal
    return f"≤ 1/{1 / goal:.0f}" if 0 < goal < 0.02 else f"≤ {goal:g}"


class Bench:
    """What all groups share."""

    def __init__(self, target, root, quick, log):
        self.target, self.built = Path(target), Path(target) / "compare"
        self.root, self.quick, self.log = Path(root), quick, log
        self.peers = Peers(self.target / "release/luat-ota", self.built, root)
        self.rounds = 5 if quick else 7
        self.seconds = 1 if quick else 4
        self._idle = None

    def place(self, name):
        return Place(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))

    def interleaved(self, servers, load, warm=True, rounds=None):
        """Runs `load(name, server)` at each in turn, in changing order; a list of runs for each name."""
        names = list(servers)
        runs = {name: [] for name in names}
        if warm:
            for name in names:
                load(name, servers[name])
        for round_ in range(rounds or self.rounds):
            for name in names if round_ % 2 else reversed(names):
                runs[name].append(load(name, servers[name]))
        return runs


def _ratio(ours, theirs, cost):
    """The median of the ratios of each round: what slows the machine for a while slows both."""
    return statistics.median(cost(a) / cost(b) for a, b in zip(ours, theirs, strict=True))


def _median(runs, cost):
    return statistics.median(map(cost, runs))


def _speed(runs):
    """Throughput and latency of the median run by throughput."""
    done = sorted((run.done for run in runs), key=lambda done: done["per_second"])[len(runs) // 2]
    keys = ("per_second", "bytes_per_second", "p50_ms", "p99_ms", "p50_us", "p99_us", "errors", "bad", "asked_again")
    return {key: round(done[key], 3) for key in keys if done.get(key) is not None}


def _compared(runs, ours, theirs, cost, unit):
    return {
        "ours": f"{_median(runs[ours], cost):.3f} {unit}",
        "theirs": f"{_median(runs[theirs], cost):.3f} {unit}",
        "rounds": [round(cost(a) / cost(b), 3) for a, b in zip(runs[ours], runs[theirs], strict=True)],
        "our_speed": _speed(runs[ours]),
        "their_speed": _speed(runs[theirs]),
    }


def _per_request(run):
    return run.cpu / run.done["requests"] * PER


def _per_gb(run):
    return run.cpu / run.done["bytes"] * GB


def _per_reply(run):
    return run.cpu / run.done["replies"] * PER


def checks(bench):
    """An update check that ends in 404."""
    place = bench.place("checks")
    place.release("HTTP", "1.0.1", noise(1, 4096))
    asked = target("HTTP", "9.9.9")
    with bench.peers.luat_ota(place) as ours:
        bench.peers.wait_until_offered(ours, "HTTP", 4096)
        reply = fetch(ours.port, asked)
        if not reply.startswith(b"HTTP/1.1 404 "):
            raise MeasureError("the check is not answered with 404")
        with (
            bench.peers.nginx_404(place, len(reply)) as plain,
            bench.peers.nginx_404(place, len(reply), "deferred") as deferred,
        ):
            runs = bench.interleaved(
                {"ours": ours, "plain": plain, "deferred": deferred},
                lambda _, server: loads.wrk(server, asked, 64, bench.seconds, len(reply)),
            )
    work = "update check that ends in 404, one connection each, 64 at a time"
    for peer, against, must, aim in (
        ("plain", "nginx", 0.65, 0.55),
        ("deferred", "nginx, deferred", 0.85, 0.70),
    ):
        value = _ratio(runs["ours"], runs[peer], _per_request)
        yield Row(work, against, value, must, aim, **_compared(runs, "ours", peer, _per_request, "CPU-s/100k"))


def downloads(bench):
    """Downloads over HTTP."""
    sizes = (
        ("K100", "100 KiB", 100 * KIB, 64, 0.95, 0.80),
        ("M1", "1 MiB", MIB, 64, 1.25, 1.0),
        ("M16", "16 MiB", 16 * MIB, 8, 1.25, 1.0),
    )
    place = bench.place("downloads")
    for name, _, size, *_ in sizes:
        place.release(name, "1.0.1", noise(size, size))
    with bench.peers.luat_ota(place) as ours, bench.peers.nginx(place) as nginx:
        for name, text, size, at_once, must, aim in sizes:
            bench.peers.wait_until_offered(ours, name, size)
            # Without an id: the loop guard soon holds back a device that takes the same file for ever.
            asked = {"ours": target(name, "1.0.0", imei=""), "nginx": f"/{name}.bin"}
            for server in (ours, nginx):
                body = fetch(server.port, asked[server.name if server is nginx else "ours"])
                if not body.endswith((place.web / f"{name}.bin").read_bytes()):
                    raise MeasureError(f"{server.name} sends other bytes")
            runs = bench.interleaved(
                {"ours": ours, "nginx": nginx},
                lambda peer, server: loads.wrk(server, asked[peer], at_once, bench.seconds, size),
            )
            # Of few large files many are cut by the end of a run: their bytes count, they do not.
            cost, unit = (_per_request, "CPU-s/100k") if size < MIB else (_per_gb, "CPU-s/GB")
            value = _ratio(runs["ours"], runs["nginx"], cost)
            work = f"{text} download, one connection each, {at_once} at a time"
            yield Row(work, "nginx, sendfile", value, must, aim, **_compared(runs, "ours", "nginx", cost, unit))


def packets(bench):
    """GetN over UDP: 64 devices with one request outstanding each, and one device alone."""
    place = bench.place("packets")
    file = place.release("GETS", "1.0.1", noise(2, 4 * MIB))
    asked = message("GETS", "1.0.0")
    with bench.peers.luat_ota(place) as ours:
        bench.peers.wait_until_offered(ours, "GETS", 4 * MIB)

        def load(peer, server, sockets=64, window=1, seconds=bench.seconds, **where):
            port = server.udp if server is ours else server.port
            check = "-" if peer == "constant" else asked
            return loads.datagrams(server, bench.built, port, check, file, sockets, window, seconds, **where)

        with bench.peers.constant() as constant:
            servers = {"ours": ours, "constant": constant}
            # A module sends the next request only after it received the packet.
            runs = bench.interleaved(servers, load)
            value = _ratio(runs["ours"], runs["constant"], _per_reply)
            more = _compared(runs, "ours", "constant", _per_reply, "CPU-s/100k")
            yield Row("UDP GetN, 64 devices with one outstanding each", "constant reply", value, 1.35, 1.1, **more)

        try:
            with bench.peers.seed("GETS", file) as seed:
                runs = bench.interleaved(
                    {"ours": ours, "seed": seed},
                    lambda peer, server: load(peer, server, seconds=2 if bench.quick else 6),
                    warm=False,
                    rounds=3,
                )
            value = _ratio(runs["ours"], runs["seed"], _per_reply)
            more = _compared(runs, "ours", "seed", _per_reply, "CPU-s/100k")
            yield Row("UDP GetN, 64 devices with one outstanding each", "the seed's server", value, "-", "-", **more)
        except MeasureError as why:
            bench.log(f"left out: {why}")

        with bench.peers.tftpd(place) as tftpd:

            def whole(peer, server):
                if peer == "tftpd":
                    return loads.tftp(server, bench.built, "GETS.bin", file)
                return load(peer, server, 1, 1, 0, where=loads.EVERYWHERE)

            os.sched_setaffinity(ours.process.pid, loads.EVERYWHERE)
            runs = bench.interleaved({"ours": ours, "tftpd": tftpd}, whole, rounds=2 * bench.rounds + 1)
        duration = lambda run: run.done["seconds"]
        value = _ratio(runs["ours"], runs["tftpd"], duration)
        ours_took, theirs_took = _median(runs["ours"], duration), _median(runs["tftpd"], duration)
        yield Row(
            "4 MiB over UDP, one device, packet by packet",
            "tftpd-hpa, blksize 1024",
            value,
            1.6,
            "< 1",
            aims=value < 1,
            ours=f"{ours_took * 1000:.1f} ms",
            theirs=f"{theirs_took * 1000:.1f} ms",
        )


def half_heads(bench):
    """Connections that have sent half a head."""
    place = bench.place("half")
    place.release("HTTP", "1.0.1", noise(1, 4096))
    count = min(10_000, loads.raise_file_limit() - 500)
    head = request(target("HTTP", "1.0.0"))
    half = head[: len(head) // 2]
    used, taken = {}, {}
    with (
        bench.peers.luat_ota(place, "--head-timeout", "120") as ours,
        bench.peers.nginx(place, connections=16_384) as nginx,
    ):
        for server in (ours, nginx):
            before = available_memory()
            with loads.Connections(server, count, half) as connections:
                used[server] = loads.wait_until_stable(server.anonymous)
                taken[server] = before - available_memory()
                connections.check_open()
    mib = {server: amount / MIB for server, amount in used.items()}
    yield Row(
        f"anonymous memory with {count:,} connections that have sent half a head",
        "nginx",
        mib[ours] / mib[nginx],
        "≤ 16 MiB",
        "-",
        holds=mib[ours] <= 16,
        ours=f"{mib[ours]:.1f} MiB",
        theirs=f"{mib[nginx]:.1f} MiB",
        with_the_kernels={"ours_mib": round(taken[ours] / MIB, 1), "theirs_mib": round(taken[nginx] / MIB, 1)},
    )


def stalled(bench):
    """Downloads whose client reads nothing."""
    place = bench.place("stalled")
    place.release("M16", "1.0.1", noise(16, 16 * MIB))
    count = min(1000, loads.raise_file_limit() - 500)
    falls = {"ours": [], "nginx": []}
    for _ in range(1 if bench.quick else 3):
        for name in falls:
            start = bench.peers.luat_ota if name == "ours" else bench.peers.nginx
            more = {} if name == "ours" else {"connections": 4096}
            with start(place, **more) as server:
                asked = target("M16", "1.0.0") if name == "ours" else "/M16.bin"
                wait_until(
                    "M16 is there",
                    30,
                    lambda: (fetch(server.port, target("M16", "9.9.9")) or b"").startswith(b"HTTP/1.1 404"),
                )
                time.sleep(1.5)
                # Before the first download: the copy that it is served from counts.
                before = available_memory()
                with loads.Connections(server, count, request(asked), receive_buffer=4096) as connections:
                    during = loads.wait_until_stable(available_memory, tolerance=4 * MIB)
                    _check_begun(server, connections)
                after = loads.wait_until_stable(available_memory, timeout=5, tolerance=4 * MIB)
                copy = 16 * MIB if name == "ours" else 0
                # Others use memory too meanwhile: taken from the middle of before and after.
                falls[name].append((before - copy + after) / 2 - during + copy)
    fall = {name: statistics.median(list_) / MIB for name, list_ in falls.items()}
    yield Row(
        f"fall of MemAvailable with {count:,} stalled 16 MiB downloads",
        "nginx",
        fall["ours"] / fall["nginx"],
        0.25,
        0.1,
        ours=f"{fall['ours']:.0f} MiB",
        theirs=f"{fall['nginx']:.0f} MiB",
    )


def _check_begun(server, connections):
    for one in connections.open[:: max(1, len(connections.open) // 20)]:
        if not one.recv(15).startswith(b"HTTP/1.1 200"):
            raise MeasureError(f"{server.name} does not send the file")


def many(bench):
    """A folder with 10,000 releases: what a check costs, and how long a restart takes."""
    few = bench.place("few")
    few.release("P57", "1.0.100", noise(57, 40), {"allow": ["862000000000000-862000000000004"]})
    big = bench.place("many")
    ranges = [f"{first}-{first + 4}" for first in range(862 * 10**12, 862 * 10**12 + 10**6, 10)]
    for project in range(100):
        for version in range(1, 101):
            rules = {"allow": ranges} if (project, version) == (57, 100) else None
            big.release(f"P{project}", f"1.0.{version}", noise(project * 1000 + version, 40), rules)
    state = big.root / "state"
    journal = _known_devices(state, 1_000_000)

    def newest(server, project):
        # This one is in the ranges.
        reply = fetch(server.port, target(f"P{project}", "1.0.99", "862000000500003")) or b""
        return reply.endswith(noise(project * 1000 + 100, 40))

    with bench.peers.luat_ota(big, "--max-devices", "1000000", state=state, ready=False) as large:
        for project in range(100):
            wait_until(f"P{project} is offered", 180, lambda: newest(large, project), large.process)
        with bench.peers.luat_ota(few) as small:
            # Refused by its ranges, after a look at the newest release and the one before.
            asked = target("P57", "1.0.99")
            if not fetch(large.port, target("P1", "1.0.100", "862000000000000")):
                raise MeasureError("a known device is not answered")
            for server in (large, small):
                wait_until(
                    "the ranges are looked at",
                    30,
                    lambda: (fetch(server.port, asked) or b"").startswith(b"HTTP/1.1 403"),
                    server.process,
                )
            runs = bench.interleaved(
                {"large": large, "small": small},
                lambda _, server: loads.wrk(server, asked, 64, bench.seconds, 100),
            )
    value = _ratio(runs["large"], runs["small"], _per_request)
    yield Row(
        "a check with 10,000 releases, 100,000 IMEI ranges and 1,000,000 devices",
        "the same with 1 of each",
        value,
        1.3,
        1.1,
        **_compared(runs, "large", "small", _per_request, "CPU-s/100k"),
    )
    # A restart is measured with the releases alone: what a million devices add is in docs/state.md.
    journal.unlink()
    times = []
    for project in (57, 99, 0, 31, 7):
        began = time.monotonic()
        with bench.peers.luat_ota(big, state=state, ready=False) as server:
            asked = target(f"P{project}", "1.0.99", "862000000500003")
            reply = wait_until(
                "the first answer", 60, lambda: fetch(server.port, asked) or b"", server.process
            )
            times.append(time.monotonic() - began)
            if not reply.endswith(noise(project * 1000 + 100, 40)):
                raise MeasureError("the first answer after a restart is not the newest release")
            server.kill()
    yield Row(
        "restart with 10,000 known releases, until the first answer",
        "",
        statistics.median(times),
        "< 1 s",
        "< 0.3 s",
        unit="s",
        holds=statistics.median(times) < 1,
        aims=statistics.median(times) < 0.3,
        rounds=[round(one, 3) for one in times],
    )


def _known_devices(state, number):
    """A journal (docs/state.md) of so many devices that were seen yesterday; its path."""
    state.mkdir(mode=0o700, parents=True)
    journal = state / "journal.jsonl"
    now = int(time.time())

    def line(text):
        return b'%s,"crc":"%08x"}\n' % (text, zlib.crc32(text))

    with journal.open("wb") as out:
        out.write(line(b'{"luat-ota-journal":1'))
        out.write(line(b'{"clock":"start","trusted":true,"at":%d' % (now - 90000)))
        for device in range(number):
            out.write(
                line(
                    b'{"device":"imei:%d","project":"P%d","version":"1.0.100","first":%d,"last":%d,'
                    b'"interval":14400,"network":"10.%d.%d.0/24","at":%d'
                    % (
                        862 * 10**12 + device,
                        device % 100,
                        now - 10**6,
                        now - 86400,
                        device >> 8 & 255,
                        device & 255,
                        now - 86400,
                    )
                )
            )
    return journal


class Idle:
    """Two servers that have served and have nothing to do any more: one as it is, one that never looks through
    its folder. They idle while other rows are measured."""

    def __init__(self, bench):
        self.seconds = 35 if bench.quick else 60
        self.servers = []
        for flags in ((), ("--rescan", "86400")):
            place = bench.place("idle")
            place.release("HTTP", "1.0.1", noise(1, 4096))
            server = bench.peers.luat_ota(place, *flags)
            self.servers.append(server)
            bench.peers.wait_until_offered(server, "HTTP", 4096)
        # The last look at the new files comes some seconds after they are offered. Others are measured
        # meanwhile.
        self.before, self.began = None, None
        self.beginning = threading.Timer(15, self._begin)
        self.beginning.start()

    def _begin(self):
        self.before = [server.wake_ups() for server in self.servers]
        self.began = time.monotonic()

    def rows(self):
        wait_until("the idle servers have come to rest", 20, lambda: self.began is not None)
        time.sleep(max(0.0, self.began + self.seconds - time.monotonic()))
        seconds = time.monotonic() - self.began
        memory = self.servers[0].anonymous() / MIB
        plain, without = (
            server.wake_ups() - before for server, before in zip(self.servers, self.before, strict=True)
        )
        yield Row(
            "idle: anonymous memory after a download",
            "",
            memory,
            1.5,
            "-",
            unit="MiB",
        )
        yield Row(
            f"idle: wake-ups in {seconds:.0f} s but for the rescan",
            "",
            without,
            "0",
            "-",
            unit="wake-ups",
            holds=without == 0,
            with_the_rescan=plain,
        )

    def stop(self):
        self.beginning.cancel()
        for server in self.servers:
            server.stop()


def size(bench):
    """The binary: as it is shipped, for which the goals are, if that was built of what lies here; and as cargo builds
    it."""
    shipped = _shipped()
    if not shipped:
        bench.log("left out: the binaries as they are shipped; packaging/build.sh x86_64 makes them")
    for what, built, name, must, aim in (
        ("without features", "footprint/router/luat-ota", "luat-ota-x86_64-router", 1.5, "-"),
        ("with all features", "release/luat-ota", "luat-ota-x86_64", 3.5, "-"),
    ):
        if shipped:
            size = (shipped / name).stat().st_size / 1e6
            yield Row(f"binary, {what}, as shipped", "", size, must, aim, unit="MB")
        size = (bench.target / built).stat().st_size / 1e6
        yield Row(f"binary, {what}, `cargo build`", "", size, "-", "-", unit="MB")


def _shipped():
    """Where the binaries of packaging/build.sh are, or None: not there, or of another state of the program."""
    root = Path(__file__).resolve().parents[2]
    try:
        about = (root / "dist/BUILD.txt").read_text()
    except OSError:
        return None
    commit = re.search(r"^commit: ([0-9a-f]{40})$", about, re.M)
    parts = ["src", "www", "build.rs", "Cargo.toml", "Cargo.lock", "packaging"]
    same = commit and not subprocess.run(
        ["git", "-C", root, "diff", "--quiet", commit[1], "--", *parts], stderr=subprocess.DEVNULL
    ).returncode
    there = all((root / "dist" / name).exists() for name in ("luat-ota-x86_64", "luat-ota-x86_64-router"))
    return root / "dist" if same and there else None


def calls(bench):
    """System calls per check, counted by strace."""
    place = bench.place("calls")
    place.release("HTTP", "1.0.1", noise(1, 4096))
    asked = target("HTTP", "9.9.9")
    counts, tables = {}, {}
    with bench.peers.luat_ota(place) as ours:
        bench.peers.wait_until_offered(ours, "HTTP", 4096)
        length = len(fetch(ours.port, asked))
        with bench.peers.nginx_404(place, length) as nginx:
            for name, server in (("ours", ours), ("nginx", nginx)):
                counts[name], tables[name] = _strace(bench, server, asked, length)
    yield Row(
        "system calls per check",
        "",
        counts["ours"],
        4.5,
        4.1,
        unit="calls",
        ours=f"{counts['ours']:.2f}",
        theirs=f"{counts['nginx']:.2f} (nginx)",
        calls=tables,
    )


def _strace(bench, server, asked, length):
    report = Path(tempfile.mkdtemp(dir=bench.root)) / "strace"
    attach = [part for pid in server.processes() for part in ("-p", str(pid))]
    strace = subprocess.Popen(
        ["strace", "-c", "-f", "-o", report, *attach], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        line = strace.stderr.readline()
        if "attached" not in line:
            raise MeasureError(f"strace cannot attach: {line.strip()}")
        run = loads.wrk(server, asked, 64, 2 if bench.quick else 5, length)
    finally:
        strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=30)
    table = {}
    for line in report.read_text().splitlines():
        # % time, seconds, usecs/call, calls, errors if any, name
        fields = line.split()
        if len(fields) >= 5 and re.fullmatch(r"[\d.]+", fields[0]) and fields[-1] != "total":
            table[fields[-1]] = round(int(fields[3]) / run.done["requests"], 3)
    if not table:
        raise MeasureError("strace counted nothing")
    return sum(table.values()), {name: count for name, count in table.items() if count >= 0.001}


def allocations(bench):
    """Heap allocations, counted by tests/allocations.rs."""
    done = subprocess.run(
        ["cargo", "test", "--locked", "--quiet", "--test", "allocations", "--", "--nocapture"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    # Of a GetN that comes alone, which is also one wake-up.
    for what, must in (('"no update" check', 4), ("GetN", 1)):
        found = re.search(rf"^allocations per {re.escape(what)}: ([\d.]+)$", done.stdout, re.M)
        if not found:
            raise MeasureError(f"tests/allocations.rs does not say how many for a {what}:\n{done.stdout}{done.stderr}")
        count = float(found[1])
        yield Row(f"heap allocations per {what}", "", count, must, "-", unit="allocations")


GROUPS = {
    "checks": checks,
    "downloads": downloads,
    "packets": packets,
    "half-heads": half_heads,
    "stalled": stalled,
    "many": many,
    "idle": None,
    "size": size,
    "calls": calls,
    "allocations": allocations,
}
