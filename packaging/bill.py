#!/usr/bin/env python3
"""Writes what the binaries are made of: a bill of materials (CycloneDX 1.5) and all licences.

    packaging/bill.py DIST RUST_SOURCE ZIG_FOLDER TRIPLE...

Called by build.sh, with the cargo that builds first in PATH. Everything comes from `cargo metadata`,
the crates' own folders, Cargo.lock and the two folders named, so the same input gives the same bytes;
the only date is SOURCE_DATE_EPOCH. What is compiled only to build (build scripts, macros) or to test is
not part of any binary and is left out.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import tomllib

LICENCE = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.I)
# What the standard library is built from besides itself, with the features that build.sh gives it.
STD_CRATES = ("cfg-if", "hashbrown", "libc", "rustc-demangle")


def metadata(triple, *more):
    """What `cargo metadata` says for one target."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform", triple, *more]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def linked(data):
    """What is linked into the binary: ids, each with the ids that it needs itself."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    macros = {i for i, p in packages.items() if any("proc-macro" in t["kind"] for t in p["targets"])}
    found, todo = {}, list(data["workspace_members"])
    while todo:
        this = todo.pop()
        if this in found:
            continue
        found[this] = sorted(
            dep["pkg"]
            for dep in nodes[this]["deps"]
            if dep["pkg"] not in macros and any(kind["kind"] is None for kind in dep["dep_kinds"])
        )
        todo += found[this]
    return found, packages


def texts(folder):
    """The licence files of a folder."""
    files = sorted(path for path in pathlib.Path(folder).iterdir() if LICENCE.match(path.name))
    return [(path.name, path.read_text("utf-8", "replace")) for path in files if path.is_file()]


def component(name, version, licence, purl, digest=None, only_full=False):
    entry = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if only_full:
        entry["properties"] = [{"name": "luat-ota:size", "value": "full"}]
    if digest:
        entry["hashes"] = [{"alg": "SHA-256", "content": digest}]
    entry["licenses"] = [{"expression": licence}]
    return entry


def main():
    dist, rust, zig = (pathlib.Path(argument) for argument in sys.argv[1:4])
    needs, packages, router = {}, {}, set()
    for triple in sys.argv[4:]:
        found, here = linked(metadata(triple))
        packages.update(here)
        for this, others in found.items():
            needs[this] = sorted(set(needs.get(this, [])) | set(others))
        router |= set(linked(metadata(triple, "--no-default-features"))[0])
    lock = tomllib.loads(pathlib.Path("Cargo.lock").read_text())
    digests = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}

    def purl(this):
        return f"pkg:cargo/{packages[this]['name']}@{packages[this]['version']}"

    order = sorted(needs, key=lambda this: (packages[this]["name"], packages[this]["version"]))
    ours = [this for this in order if packages[this]["source"] is None]
    components, licences = [], []
    for this in order:
        package = packages[this]
        # Old crates write MIT/Apache-2.0 where the standard says OR.
        licence = (package["license"] or "NOASSERTION").replace("/", " OR ")
        folder = pathlib.Path(package["manifest_path"]).parent
        licences.append((f"{package['name']} {package['version']}", licence, texts(folder)))
        if this not in ours:
            digest = digests.get((package["name"], package["version"]))
            only_full = this not in router
            components.append(component(package["name"], package["version"], licence, purl(this), digest, only_full))

    # Not in Cargo.lock, and yet in every binary.
    compiler = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[1]
    zig_version = subprocess.run([zig / "zig", "version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    both, mit = "MIT OR Apache-2.0", "MIT"
    components.append(component("rust-std", compiler, both, f"pkg:generic/rust-std@{compiler}"))
    licences.append((f"the Rust standard library {compiler}", both, texts(rust)))
    lock = tomllib.loads((rust / "library" / "Cargo.lock").read_text())
    crates = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo") / "registry" / "src"
    for package in lock["package"]:
        name, version = package["name"], package["version"]
        if name in STD_CRATES:
            # cargo has fetched them for build-std.
            folder = sorted(crates.glob(f"*/{name}-{version}"))[0]
            licence = tomllib.loads((folder / "Cargo.toml").read_text())["package"]["license"]
            ref = f"pkg:cargo/{name}@{version}?part-of=rust-std"
            components.append(component(name, version, licence, ref, package.get("checksum")))
            licences.append((f"{name} {version} (in the standard library)", licence, texts(folder)))
    for name, folder in (("musl", zig / "lib" / "libc" / "musl"), ("compiler-rt of Zig", zig)):
        ref = f"pkg:generic/{name.split()[0]}@zig-{zig_version}"
        components.append(component(name, f"zig-{zig_version}", mit, ref))
        licences.append((f"{name} (of Zig {zig_version})", mit, texts(folder)))

    me = packages[ours[0]]
    date = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", date),
            "component": {
                "type": "application",
                "bom-ref": purl(ours[0]),
                "name": me["name"],
                "version": me["version"],
                "purl": purl(ours[0]),
                "licenses": [{"expression": me["license"]}],
                "externalReferences": [{"type": "vcs", "url": me["repository"]}],
            },
        },
        "components": components,
        "dependencies": [{"ref": purl(this), "dependsOn": [purl(need) for need in needs[this]]} for this in order],
    }
    (dist / "luat-ota.cdx.json").write_text(json.dumps(bill, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

    # Each text once, with all who use it.
    out = ["What the binaries of luat-ota are made of, each part with its licence; the texts follow.\n"]
    seen = {}
    for name, licence, files in licences:
        out.append(f"  {name}: {licence}")
        for file, text in files:
            seen.setdefault("\n".join(line.rstrip() for line in text.strip().splitlines()), []).append(f"{name} ({file})")
    for text, users in seen.items():
        out.append("\n" + "=" * 100 + "\n" + "\n".join(users) + "\n" + "-" * 100 + "\n" + text)
    (dist / "LICENSES.txt").write_text("\n".join(out) + "\n")
    bare = [name for name, _, files in licences if not files]
    if bare:
        print("no licence file of their own: " + ", ".join(bare), file=sys.stderr)


main()
