#!/usr/bin/env python3
"""Builds the site: two mdBooks, English at its root and Chinese in zh-CN/, from the documents of the repository.

    packaging/site.py            # into target/site/html; open index.html there

Fails if mdBook warns, if a link, an anchor or an image is missing, or if a search in either language finds nothing. It
needs mdBook 0.5 and no network:

    python3 -m pip install --require-hashes -r packaging/site/tools.txt     # on amd64
    cargo install mdbook --locked --no-default-features --features search   # on any machine
"""
import html.parser
import os
import pathlib
import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "packaging/site"
OUT = ROOT / "target/site"
CHINESE = "zh-CN"
# Documents outside of docs/ that are pages. Links to any other file lead to the repository.
PAGES = {
    "README.md": "index.md",
    f"README.{CHINESE}.md": f"{CHINESE}/index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "packaging/README.md": "packaging.md",
}
LINK = re.compile(r"(\]\()([^()\s]+)(\))")
IMAGE = re.compile(r"(?<!\[)(!\[[^\]]*\]\(([^()\s]+)\))")
# What a search must find: words, and the page.
SEARCHES = {"": ("quarantined", "folder.html"), CHINESE: ("断电", "state.html")}


def repository():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["repository"].rstrip("/")


def pages():
    """Path in the repository to path on the site, of every document and image that the site has."""
    found = dict(PAGES)
    docs = ROOT / "docs"
    for file in sorted(docs.rglob("*")):
        if file.is_file():
            found[file.relative_to(ROOT).as_posix()] = file.relative_to(docs).as_posix()
    return found


def rewritten(text, source, found, faults):
    """The document with links that lead to pages of the site, or to the repository."""
    here = posixpath.dirname(found[source])

    def link(match):
        address, _, fragment = match[2].partition("#")
        if "://" in address or address.startswith("mailto:") or not address:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), address))
        if target in found:
            address = posixpath.relpath(found[target], here or ".")
            address = re.sub(r"\.md$", ".html", address)
        elif (ROOT / target).exists():
            kind = "tree" if (ROOT / target).is_dir() else "blob"
            address = f"{repository()}/{kind}/main/{target}"
        else:
            faults.append(f"{source}: no such file: {target}")
        return match[1] + address + ("#" + fragment if fragment else "") + match[3]

    lines, fenced = [], False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        # A page of the browser is small on a phone: a tap on its image opens it alone.
        lines.append(line if fenced else IMAGE.sub(r"[\1](\2)", LINK.sub(link, line)))
    # Every page leads to the other language; one without a translation leads to its first page.
    if not here and not lines[2].startswith("[中文]"):
        lines[1:1] = ["", f"[中文首页]({CHINESE}/index.html)"]
    return "\n".join(lines) + "\n"


def stage():
    """Copies the documents to where mdBook reads them, in the layout of the site. Returns what is wrong with them."""
    faults, found = [], pages()
    shutil.rmtree(OUT, ignore_errors=True)
    for source, page in found.items():
        # An image is in the English book; Chinese pages link to it there.
        book, name = (CHINESE, page.split("/", 1)[1]) if page.startswith(CHINESE + "/") else ("en", page)
        target = OUT / "source" / book / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            target.write_text(rewritten((ROOT / source).read_text(), source, found, faults))
        else:
            shutil.copyfile(ROOT / source, target)
    for book, suffix in (("en", ""), (CHINESE, f".{CHINESE}")):
        shutil.copyfile(CONFIGURATION / f"SUMMARY{suffix}.md", OUT / "source" / book / "SUMMARY.md")
    return faults


def build():
    """Runs mdBook for both languages. Returns its warnings."""
    if not shutil.which("mdbook"):
        sys.exit(f"packaging/site.py: mdBook is missing. {__doc__.split('network:')[1].rstrip()}")
    version = subprocess.run(["mdbook", "--version"], check=True, capture_output=True, text=True).stdout
    if not version.startswith("mdbook v0.5."):
        sys.exit(f"packaging/site.py needs mdBook 0.5, not {version.strip()}")
    name = repository().rsplit("/", 1)[1]
    books = {
        "en": {"BOOK__TITLE": "luat-ota", "BOOK__LANGUAGE": "en", "OUTPUT__HTML__SITE_URL": f"/{name}/"},
        # A site has one page for addresses that it does not have.
        CHINESE: {
            "BOOK__TITLE": "luat-ota 中文文档",
            "BOOK__LANGUAGE": CHINESE,
            "OUTPUT__HTML__INPUT_404": "",
        },
    }
    faults = []
    for book, settings in books.items():
        settings["BOOK__SRC"] = os.path.relpath(OUT / "source" / book, CONFIGURATION)
        settings["OUTPUT__HTML__GIT_REPOSITORY_URL"] = repository()
        target = OUT / "html" / (CHINESE if book == CHINESE else "")
        run = subprocess.run(
            ["mdbook", "build", str(CONFIGURATION), "--dest-dir", str(target)],
            env=os.environ | {f"MDBOOK_{key}": value for key, value in settings.items()},
            capture_output=True,
            text=True,
        )
        lines = run.stderr.splitlines() + run.stdout.splitlines()
        faults += [f"mdbook, {book}: {line.strip()}" for line in lines if not re.match(r"\s*INFO ", line)]
        if run.returncode:
            faults.append(f"mdbook, {book}: exit status {run.returncode}")
    # Part of the library's file: a script of its own can run after the index is loaded.
    libraries = list((OUT / "html" / CHINESE).glob("elasticlunr-*.js"))
    for library in libraries:
        with library.open("a") as file:
            file.write("\n" + (CONFIGURATION / f"elasticlunr-{CHINESE}.js").read_text())
    return faults if len(libraries) == 1 else faults + [f"not one file of elasticlunr: {libraries}"]


class Page(html.parser.HTMLParser):
    """The links of a page, and what a link may lead to in it."""

    def __init__(self, file):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        for key, value in attributes:
            if key in ("id", "name"):
                self.anchors.add(value)
            elif key in ("href", "src") and value:
                self.links.append(value)


def check_links():
    """Returns every link within the site that leads nowhere."""
    site = OUT / "html"
    found = {file.relative_to(site).as_posix(): Page(file) for file in sorted(site.rglob("*.html"))}
    faults, count = [], 0
    for name, page in found.items():
        # Its links begin at the address of the published site.
        if name == "404.html":
            continue
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), urllib.parse.unquote(parts.path)))
            path = name if not parts.path else path
            path = posixpath.join(path, "index.html") if (site / path).is_dir() else path
            if not (site / path).is_file():
                faults.append(f"{name}: dead link: {link}")
            elif parts.fragment and urllib.parse.unquote(parts.fragment) not in found[path].anchors:
                faults.append(f"{name}: dead anchor: {link}")
    if count < 1000:
        faults.append(f"only {count} links found")
    return faults


def check_search():
    """Searches in a browser, in both languages, as a reader does."""
    faults = []
    if not shutil.which("chromium"):
        print("no chromium: the search is not tested", file=sys.stderr)
        return []
    for folder, (words, page) in SEARCHES.items():
        address = (OUT / "html" / folder / "index.html").as_uri() + "?search=" + urllib.parse.quote(words)
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000"]
        run = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, timeout=120)
        results = run.stdout.partition('id="mdbook-searchresults"')[2].partition("</ul>")[0]
        if f"{page}?" not in results:
            faults.append(f"a search for {words} does not find {page}: {results[:500]} {run.stderr[-500:]}")
    return faults


def main():
    faults = stage()
    faults += build()
    if not faults:
        faults = check_links() + check_search()
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(f"packaging/site.py: {len(faults)} faults")
    print(f"target/site/html: {len(list((OUT / 'html').rglob('*.html')))} pages, no dead link")


main()
