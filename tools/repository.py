#!/usr/bin/env python3
"""Keeps every link to this repository in step with `repository` in Cargo.toml, and checks the version.

    tools/repository.py          prints the address
    tools/repository.py --check  reports links that do not follow from it, downloads that no release has, and other versions
                                 than that of Cargo.toml
    tools/repository.py URL      changes the address in every file, for example https://github.com/NAME/luat-ota
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r'^repository = "(.*)"$', re.M)
VERSION = re.compile(r'^version = "(.*)"$', re.M)
# An address of a repository: scheme, host, owner and name, without a slash or .git at the end.
WELL_FORMED = re.compile(r"https://[a-z0-9.-]+/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(?<!\.git)")
# What can only be a link to this repository: a release, a clone, an issue form, a file of the main branch, or its name.
OWN = re.compile(
    r"https?://(?!127\.0\.0\.1)[^\s\"'`)<>]*?(?:/releases\b|/security/advisories|/(?:blob|tree|raw)/main/|/[A-Za-z0-9_.-]+/luat-ota\b)"
    r"[^\s\"'`)<>]*|(?<=git clone )https?://\S+"
)
# Where the version stands besides Cargo.toml: names of packages and of the image, and three files.
VERSIONED = re.compile(r"luat-ota[_:](\d+\.\d+\.\d+)|^PKG_VERSION:=(.*)|^\"info\": .*\"version\":\"([^\"]*)\"")
# What packaging/release.sh publishes.
PUBLISHED = re.compile(
    r"luat-ota-(x86_64|aarch64|armv7|armv6|mipsel|mips)(-router)?|luat-ota-(docker-(x86_64|aarch64|armv7|armv6)|oci)\.tar|compose\.yaml|SHA256SUMS|"
    r"luat-ota\.cdx\.json|LICENSES\.txt|BUILD\.txt|"
    r"luat-ota_VERSION_(amd64|arm64|armhf)\.deb|luat-ota_VERSION-1_[a-z0-9_-]+\.ipk"
)


def files():
    """The tracked text files, and the new ones: (path, text)."""
    command = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in sorted(set(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0"))):
        path = ROOT / name
        if not path.is_file() or path == pathlib.Path(__file__).resolve():
            continue
        try:
            yield path, path.read_text("utf-8")
        except UnicodeDecodeError:
            pass


def problems(address, version):
    """One sentence for each link that is wrong."""
    manifest = (ROOT / "Cargo.toml").read_text()
    for key in ("homepage", "documentation"):
        if not re.search(rf'^{key} = "{re.escape(address)}\b.*"$', manifest, re.M):
            yield f"Cargo.toml: {key} does not begin with {address}"
    if f"\n## {version} - " not in (ROOT / "CHANGELOG.md").read_text():
        yield f"CHANGELOG.md: no section {version} with a date"
    count = versions = 0
    for path, text in files():
        for number, line in enumerate(text.splitlines(), 1):
            for found in VERSIONED.findall(line):
                versions += 1
                if (other := "".join(found)) != version:
                    yield f"{path.relative_to(ROOT)}:{number}: {other} is not the version of Cargo.toml, {version}"
            for link in OWN.findall(line):
                if "/NAME/" in link:
                    continue
                count += 1
                where = f"{path.relative_to(ROOT)}:{number}"
                if not re.match(re.escape(address) + r"(?![A-Za-z0-9_-])", link):
                    yield f"{where}: {link} does not begin with {address}"
                    continue
                rest = link[len(address) :]
                if "/download" not in rest:
                    continue
                start = "/releases/latest/download/"
                name = rest.removeprefix(start).rstrip(".,")
                if not rest.startswith(start):
                    yield f"{where}: {link} is not of the newest release: {address}{start}FILE"
                elif name not in ("", "FILE") and not PUBLISHED.fullmatch(name.replace(version, "VERSION", 1)):
                    yield f"{where}: no release has the file {name}"
    if count < 5 or versions < 5:
        yield f"only {count} links and {versions} versions are found: the search is broken"


def main():
    manifest = (ROOT / "Cargo.toml").read_text()
    address, version = ADDRESS.search(manifest)[1], VERSION.search(manifest)[1]
    match sys.argv[1:]:
        case []:
            print(address)
        case ["--check"]:
            found = list(problems(address, version))
            print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
            sys.exit(1 if found else 0)
        case [new] if WELL_FORMED.fullmatch(new):
            for path, text in files():
                changed = text.replace(address, new)
                if changed != text:
                    path.write_text(changed, "utf-8")
                    print(path.relative_to(ROOT))
        case _:
            sys.exit(__doc__)


main()
