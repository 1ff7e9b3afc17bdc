#!/usr/bin/env python3
"""Counts and enforces the bounds of the code's size and shape (tools/bounds.sh calls it).

    tools/bounds.py [--list]        exit 1 if a bound is exceeded; --list names the items behind each count

Counted in src/, without tests (tests.rs, tests/, blocks under #[cfg(test)]), comments and blank lines:

    lines           of code, without the emulated clients (src/modems)
    longest file    in lines, everything included; also in tests/
    duplicate types names of struct, enum, union, trait and type that are defined more than once, without the
                    emulated clients
    unsafe          blocks, functions and impls, tests included; only under src/os
    import cycles   strongly connected groups of modules (by file) of `use crate::` and `super::` paths,
                    where a parent's and its own child's paths do not count
    imports of modems   modules of the crate that the emulated clients use
    loose files     .rs files directly in src/
"""

import pathlib
import re
import sys

BOUNDS = {
    # 26,000 was set for a program of 28,900 lines. 6,300 lines were added between then and the simplification: devices
    # without an id, waiting and sent updates, the journal of pauses, tokens, rules before a release, package formats,
    # proxies and the probe. 2,250 for `pack`: readers of 7z and zip archives with limits, LuaDB images, three layouts of
    # packages.
    # 400 for the preview of rules on the operator page. 550 for events, which users of comparable servers ask for most.
    # 700 for counts over time.
    # 600 for groups of devices: their files, how they settle, and what rules make of a missing one.
    # 150 for retiring a release.
    # 450 for exports as CSV and JSON.
    # 300 for several servers: the common secret, readiness, drain, and what monitoring counts.
    # 300 for the search through the list of devices.
    # 480 for tokens of several people and who changed what.
    # 850 for stages and the names of devices: rules, evidence, the entry of the journal, and what is shown of it.
    # 330 for the last steps of a device and its last refusal.
    # 1,030 for outcomes that servers share (--fleet).
    # 190 for a copied state folder and for what tools that synchronise folders leave in it.
    # 370 for counts as CSV, stages in the form, errors in Chinese, and lists and exports in short slices.
    # 540 for deciding once about devices that get the same result, so that a preview takes a sixth of the time,
    # and for the walk over devices after a release was removed, in ticks.
    # 350 for a million devices: common lines, fields that borrow from their line, and a compaction in small portions.
    # 100 for reading a long journal with two threads.
    # 40 for the devices and counts of a census as types, and for locks that no forked child keeps.
    "lines": 41_480,
    "longest file": 500,
    "duplicate types": 10,
    "unsafe": 33,
    "unsafe outside src/os": 0,
    "import cycles": 0,
    "imports of modems": 0,
    "loose files": 4,
    "both x.rs and x/mod.rs": 0,
}

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
EMULATED = ("modems",)


def blank(text):
    """`text` without comments and with the contents of strings and characters replaced by spaces."""
    out, i, n = [], 0, len(text)
    while i < n:
        c = text[i]
        if text.startswith("//", i):
            while i < n and text[i] != "\n":
                i += 1
        elif text.startswith("/*", i):
            depth = 0
            while i < n:
                if text.startswith("/*", i):
                    depth, i = depth + 1, i + 2
                elif text.startswith("*/", i):
                    depth, i = depth - 1, i + 2
                    if depth == 0:
                        break
                else:
                    if text[i] == "\n":
                        out.append("\n")
                    i += 1
        elif match := re.compile(r'(?<![A-Za-z0-9_])(?:b|c|br|cr|r)?(?=["#])(#*)"').match(text, i):
            raw = "r" in match.group(0)[: match.group(0).index('"')]
            end = '"' + match.group(1)
            out.append(match.group(0))
            i = match.end()
            while i < n and not text.startswith(end, i):
                step = 2 if text[i] == "\\" and not raw else 1
                # A line inside a string is a line of code.
                out.append("".join("\n" if x == "\n" else "." for x in text[i : i + step]))
                i += step
            out.append(end)
            i += len(end)
        elif match := re.compile(r"'(?:\\(?:x..|u\{[^}]*\}|.)|[^\\'\n])'").match(text, i):
            out.append("'.'")
            i = match.end()
        else:
            out.append(c)
            i += 1
    return "".join(out)


def block_end(text, start):
    """The index after the item that begins at `start`: after its `;` or its closing brace."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] in "{([":
            depth += 1
        elif text[i] in "})]":
            depth -= 1
            if depth == 0 and text[i] == "}":
                return i + 1
        elif text[i] == ";" and depth == 0:
            return i + 1
    return len(text)


def without_tests(text):
    out, at = [], 0
    for match in re.finditer(r"#\[cfg\((?:test|all\(test\b[^\]]*|any\(test\b[^\]]*)\)\]\s*", text):
        if match.start() < at:
            continue
        if "any(test" in match.group(0):
            continue
        out.append(text[at : match.start()])
        at = block_end(text, match.end())
    out.append(text[at:])
    return "".join(out)


def is_test(path):
    parts = path.relative_to(SRC).with_suffix("").parts
    return "tests" in parts or path.stem.endswith("_tests")


def module_of(path):
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    if parts[-1] == "mod":
        parts.pop()
    return tuple(parts)


def expand(tree):
    """The paths of a use tree: `a::{b, c::d}` gives a::b and a::c::d."""
    tree = tree.strip()
    if "{" not in tree:
        return [tree.split(" as ")[0].strip()]
    head, rest = tree.split("{", 1)
    rest = rest.rsplit("}", 1)[0]
    items, depth, item = [], 0, ""
    for c in rest:
        if c == "," and depth == 0:
            items.append(item)
            item = ""
            continue
        depth += {"{": 1, "}": -1}.get(c, 0)
        item += c
    items.append(item)
    return [head.strip() + path for item in items if item.strip() for path in expand(item)]


def imports(code, module, modules):
    """The modules (by file) that `code` of `module` refers to."""
    found = set()
    paths = []
    for match in re.finditer(r"\buse\s+([^;]+);", code):
        paths += expand(match.group(1))
    paths += re.findall(r"\b(?:crate|self|super)(?:::\w+)+", re.sub(r"\buse\s+[^;]+;", "", code))
    for path in paths:
        names = [name.strip() for name in path.split("::")]
        if names[0] == "crate":
            at, names = (), names[1:]
        elif names[0] == "self":
            at, names = module, names[1:]
        elif names[0] == "super":
            at = module
            while names and names[0] == "super":
                at, names = at[:-1], names[1:]
        else:
            at = module
            if not names or at + (names[0],) not in modules:
                continue
        target = at
        for name in names:
            if target + (name,) in modules:
                target += (name,)
            else:
                break
        if target and target != module:
            found.add(target)
    return found


def groups(graph):
    """Strongly connected components of more than one node (Tarjan)."""
    index, low, stack, on, out = {}, {}, [], set(), []
    sys.setrecursionlimit(10_000)

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        on.add(v)
        for w in graph.get(v, ()):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in on:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            group = []
            while True:
                w = stack.pop()
                on.discard(w)
                group.append(w)
                if w == v:
                    break
            if len(group) > 1:
                out.append(sorted(group))

    for v in sorted(graph):
        if v not in index:
            visit(v)
    return out


def main():
    files = sorted(SRC.rglob("*.rs"))
    longest = {}
    for path in sorted((ROOT / "tests").rglob("*.rs")):
        longest[str(path.relative_to(ROOT))] = path.read_text().count("\n")
    lines, types, unsafe, outside = {}, {}, {}, {}
    code = {}
    for path in files:
        text = path.read_text()
        plain = blank(text)
        name = str(path.relative_to(ROOT))
        longest[name] = text.count("\n")
        count = len(re.findall(r"\bunsafe\s*(?:\{|fn\b|impl\b|extern\b)", plain))
        if count:
            unsafe[name] = count
            if not name.startswith("src/os/"):
                outside[name] = count
        if is_test(path):
            continue
        plain = without_tests(plain)
        code[module_of(path)] = plain
        if path.relative_to(SRC).parts[0] not in EMULATED:
            lines[name] = sum(1 for line in plain.splitlines() if line.strip())
        else:
            continue
        for match in re.finditer(r"^[ \t]*(?:pub(?:\([^)]*\))?\s+)?(?:struct|enum|union|trait|type)\s+(\w+)", plain, re.M):
            # An associated type of an impl is no new name.
            if re.match(r"[ \t]+type\b", match.group(0)) or match.group(0).startswith((" ", "\t")) and "type " in match.group(0):
                continue
            types.setdefault(match.group(1), []).append(name)
    modules = set(code)
    graph, foreign = {}, []
    for module, plain in code.items():
        targets = imports(plain, module, modules)
        # What a module and its own ancestors or descendants say to each other is not a cycle between modules.
        if module[0] in EMULATED:
            foreign += ["::".join(module) + " -> " + "::".join(t) for t in targets if t[0] not in EMULATED]
        graph[module] = {t for t in targets if t[: len(module)] != module and module[: len(t)] != t}
    cycles = groups(graph)
    both = [str(p) for p in files if p.name != "mod.rs" and (p.with_suffix("") / "mod.rs").exists()]
    styles = {True: [], False: []}
    for p in files:
        if is_test(p):
            continue
        if p.name == "mod.rs":
            styles[True].append(str(p.relative_to(ROOT)))
        elif p.with_suffix("").is_dir():
            styles[False].append(str(p.relative_to(ROOT)))
    mixed = min(styles.values(), key=len)
    over = {n: c for n, c in longest.items() if c > BOUNDS["longest file"]}
    twice = {n: f for n, f in types.items() if len(f) > 1}
    loose = [str(p.relative_to(ROOT)) for p in SRC.glob("*.rs")]
    measured = {
        "lines": (sum(lines.values()), sorted(lines.items(), key=lambda x: -x[1])),
        "longest file": (max(longest.values()), sorted(over.items(), key=lambda x: -x[1])),
        "duplicate types": (len(twice), sorted(twice.items())),
        "unsafe": (sum(unsafe.values()), sorted(unsafe.items())),
        "unsafe outside src/os": (sum(outside.values()), sorted(outside.items())),
        "import cycles": (len(cycles), [" <-> ".join("::".join(m) for m in g) for g in cycles]),
        "imports of modems": (len(foreign), foreign),
        "loose files": (len(loose), loose),
        "both x.rs and x/mod.rs": (len(both) + len(mixed), mixed + both),
    }
    failed = False
    for name, (value, items) in measured.items():
        bound = BOUNDS[name]
        bad = value > bound
        failed |= bad
        print(f"{name:24} {value:>7,} of at most {bound:>7,}{'   EXCEEDED' if bad else ''}")
        if bad or "--list" in sys.argv:
            for item in items if "--list" in sys.argv else items[:20]:
                print(f"    {item if isinstance(item, str) else ' '.join(map(str, item))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
