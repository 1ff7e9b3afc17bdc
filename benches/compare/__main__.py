"""The runner behind benches/compare.sh: docs/performance.md says what it measures and how to read it."""

import argparse
import datetime
import json
import os
import shutil
import sys
import tempfile
import time

import rows
from processes import MeasureError


def arguments():
    parser = argparse.ArgumentParser(prog="benches/compare.sh")
    parser.add_argument("--quick", action="store_true", help="three minutes in place of fifteen")
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--markdown", action="store_true", help="only the table, as the README has it")
    parser.add_argument("--only", action="append", metavar="NAME", help="only rows whose name begins so")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--target", default="target", help=argparse.SUPPRESS)
    return parser.parse_args()


def log(text):
    print(text, file=sys.stderr, flush=True)


def main():
    given = arguments()
    names = [
        name
        for name in rows.GROUPS
        if not given.only or any(name.startswith(only) for only in given.only)
    ]
    if given.list:
        print("\n".join(names))
        return 0
    if not names:
        log(f"no row is called {', '.join(given.only)}: see --list")
        return 2
    began = time.monotonic()
    done, broken = [], []
    root = tempfile.mkdtemp(prefix="luat-ota-compare-")
    idle = None
    try:
        bench = rows.Bench(os.path.abspath(given.target), root, given.quick, log)
        if "idle" in names:
            idle = rows.Idle(bench)
        # The idle ones go on idling while the others are measured.
        for name in sorted(names, key=lambda name: name == "idle"):
            log(f"measuring: {name} ({time.monotonic() - began:.0f} s)")
            try:
                for row in idle.rows() if name == "idle" else measure_group(rows.GROUPS[name], bench):
                    done.append(row)
                    if given.json:
                        print(json.dumps(row.json(), ensure_ascii=False), flush=True)
            except MeasureError as why:
                broken.append(name)
                log(f"not measured: {name}: {why}")
    finally:
        if idle:
            idle.stop()
        shutil.rmtree(root, ignore_errors=True)
    if given.markdown:
        print_readme(done)
    elif not given.json:
        print_table(done)
    log(f"{time.monotonic() - began:.0f} s")
    if broken:
        return 2
    return 0 if all(row.holds is not False for row in done) else 1


def measure_group(group, bench):
    """The rows of a group. If one misses its "must", all are measured twice more, and the median of each counts: a single
    measurement on a shared machine differs from the next by several percent."""
    runs = [list(group(bench))]
    if any(row.holds is False for row in runs[0]):
        log("a row misses its bound: measuring twice more; the medians count")
        runs += [list(group(bench)) for _ in range(2)]
    return [sorted(again, key=lambda row: row.value)[len(again) // 2] for again in zip(*runs)]


def machine_line():
    """What it was measured on, in a line."""
    with open("/proc/cpuinfo") as cpuinfo:
        names = [line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")]
    name = f"{names[0]}, " if names else ""
    day = datetime.datetime.now(datetime.UTC)
    return f"{day:%Y-%m-%d}, {name}{os.cpu_count()} processors, Linux {os.uname().release}"


def value_of(row):
    if row.unit:
        return f"{row.value:.3g} {row.unit}"
    return f"{row.value:.2f}" if row.value > 0.02 else f"1/{1 / row.value:.0f}"


def print_readme(done):
    lines = [("work", "against", "ratio or value", "goal")]
    lines += [(row.work, row.against or "-", value_of(row), row.must) for row in done]
    print(f"{_markdown(lines)}\n\n(`benches/compare.sh --markdown`: {machine_line()})")


def print_table(done):
    print(f"{machine_line()}\n")
    lines = [("work", "against", "ours", "theirs", "ratio or value", "must", "aim", "holds")]
    for row in done:
        value = value_of(row)
        holds = {True: "yes", False: "NO", None: "-"}[row.holds] + (", aim too" if row.aims else "")
        lines.append((row.work, row.against or "-", row.ours, row.theirs, value, row.must, row.aim, holds))
    print(_markdown(lines))
    speeds = [("work", "who", "per second", "MB/s", "p50", "p99")]
    for row in done:
        for who, key in (("luat-ota", "our_speed"), (row.against, "their_speed")):
            if speed := row.more.get(key):
                speeds.append((row.work, who, *_speed(speed)))
    if len(speeds) > 1:
        print(f"\n{_markdown(speeds)}")


def _speed(speed):
    def latency(key):
        if f"{key}_us" in speed:
            return f"{speed[f'{key}_us'] / 1000:.2f} ms"
        return f"{speed[f'{key}_ms']:.2f} ms" if f"{key}_ms" in speed else ""

    megabytes = f"{speed['bytes_per_second'] / 1e6:.0f}" if "bytes_per_second" in speed else ""
    return f"{speed['per_second']:,.0f}", megabytes, latency("p50"), latency("p99")


def _markdown(lines):
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    head, *rest = ("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)
    return "\n".join([head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rest])


if __name__ == "__main__":
    sys.exit(main())
