#!/usr/bin/env python3
"""Is the `rust-version` of Cargo.toml at least that of every dependency in Cargo.lock?"""

import json
import subprocess
import sys

METADATA = ["cargo", "metadata", "--locked", "--format-version", "1"]
packages = json.loads(subprocess.run(METADATA, check=True, stdout=subprocess.PIPE).stdout)["packages"]


def number(version):
    return tuple(int(part) for part in version.split("."))[:2]


ours = next(number(p["rust_version"]) for p in packages if p["name"] == "luat-ota")
newer = [p for p in packages if p["rust_version"] and number(p["rust_version"]) > ours]
for package in newer:
    print("%(name)s %(version)s needs Rust %(rust_version)s" % package, file=sys.stderr)
sys.exit(1 if newer else 0)
