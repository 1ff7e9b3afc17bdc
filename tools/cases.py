#!/usr/bin/env python3
"""Maps the cases of docs/cases.md to their tests.

  tools/cases.py            prints the table of cases and tests, and the cases without a test
  tools/cases.py --check    fails if docs/cases.md names a test that does not exist,
                            or if a comment names a case that docs/cases.md does not have
  tools/cases.py --write    fills the column "test" of docs/cases.md; a cell stays as it is if no test is found

A test is found by a comment above it, inside it, or inside a table that it uses. The comment begins with the cases:
`// Case 28b.`, `// Cases 5–7.`, `// Cases 1, 2 and 3: …`. Rust tests are written as `FILE::NAME`. Shell scripts under
packaging/ may have `# Case 46.`; they are written as `FILE`. Needs Python 3.11 and nothing else.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "cases.md"
ROW = re.compile(r"^\| (\d+[a-z]?) \|.*\|$")
NUMBER = r"\d+[a-z]?\b"
# A number, or a range of numbers.
PART = rf"{NUMBER}(?:\s*(?:–|-|to)\s*{NUMBER})?"
SEPARATOR = r"(?:\s*,\s*(?:and\s+)?|\s+and\s+)"
COMMENT = re.compile(rf"^\s*(?://+|#)\s*Cases?\s+({PART}(?:{SEPARATOR}{PART})*)")
FUNCTION = re.compile(r"^\s*(?:pub(?:\([a-z]+\))? )?(?:async )?fn (\w+)")

ITEM = re.compile(r"^\s*(?:pub(?:\([a-z]+\))? )?(?:async )?(?:fn|const|static) (\w+)")


def rows(text):
    """The cases of the document in its order, each with the content of its last cell."""
    found = {}
    for line in text.splitlines():
        if match := ROW.match(line):
            found[match[1]] = line.removesuffix("|").rsplit("|", 1)[1].strip()
    return found


def expand(listed, order):
    """The cases of `1, 2 and 5–7`. A range has all rows of the document between its ends. Unknown ones are kept."""
    for part in re.findall(PART, listed):
        ends = re.findall(NUMBER, part)
        if len(ends) == 2 and all(end in order for end in ends):
            yield from order[order.index(ends[0]) : order.index(ends[1]) + 1]
        else:
            yield from ends


def tests_of(path):
    """(line, name) of every Rust test in a file: a function with a `test` attribute."""
    attribute = False
    for number, line in enumerate(path.read_text().splitlines()):
        if re.match(r"\s*#\[(\w+::)*test\b", line):
            attribute = True
        elif match := FUNCTION.match(line):
            if attribute:
                yield number, match[1]
            attribute = False


def test_at(number, lines, tests):
    """The name of the test that a comment in this line belongs to: the one below it, the one around it, or the first
    one that uses the table around it."""
    for below in range(number + 1, len(lines)):
        if FUNCTION.match(lines[below]):
            name = dict(tests).get(below)
            if name:
                return name
        if not re.match(r"\s*(//|#\[|#!\[)|\s*$", lines[below]):
            break
    for above in range(number - 1, -1, -1):
        if match := ITEM.match(lines[above]):
            if above in dict(tests):
                return dict(tests)[above]
            return test_with(match[1], lines, tests)
    return None


def test_with(word, lines, tests):
    """The first test that uses a table or function of this name."""
    ends = [line for line, _ in tests[1:]] + [len(lines)]
    for (start, name), end in zip(tests, ends):
        if any(re.search(rf"\b{word}\b", line) for line in lines[start:end]):
            return name
    return None


def scan(order):
    """All tests that exist, the tests of each case, and the mistakes in comments."""
    existing, found, mistakes = set(), {}, []
    rust = [path for folder in ("src", "tests") for path in sorted((ROOT / folder).rglob("*.rs"))]
    for path in rust + sorted((ROOT / "packaging").rglob("*.sh")):
        name = path.relative_to(ROOT).as_posix()
        lines = path.read_text().splitlines()
        tests = list(tests_of(path)) if path.suffix == ".rs" else []
        existing.update(f"{name}::{test}" for _, test in tests)
        for number, line in enumerate(lines):
            match = COMMENT.match(line)
            if not match or ((path.suffix == ".rs") != line.lstrip().startswith("//")):
                continue
            test = test_at(number, lines, tests) if path.suffix == ".rs" else None
            if path.suffix == ".rs" and test is None:
                mistakes.append(f"{name}:{number + 1}: no test follows: {line.strip()}")
                continue
            for case in expand(match[1], order):
                if case not in order:
                    mistakes.append(f"{name}:{number + 1}: no case {case} in docs/cases.md")
                    continue
                entry = f"{name}::{test}" if test else name
                if entry not in found.setdefault(case, []):
                    found[case].append(entry)
    return existing, found, mistakes


def main():
    option = sys.argv[1:] or [""]
    if option not in ([""], ["--check"], ["--write"]):
        sys.exit(__doc__)
    text = TABLE.read_text()
    cells = rows(text)
    if not cells:
        sys.exit("docs/cases.md has no rows")
    order = list(cells)
    existing, found, mistakes = scan(order)
    if option == ["--check"]:
        for case, cell in cells.items():
            for entry in re.findall(r"`([^`]+)`", cell):
                fine = entry in existing if "::" in entry else (ROOT / entry).is_file()
                if not fine:
                    mistakes.append(f"docs/cases.md: case {case} names a test that does not exist: {entry}")
        for mistake in mistakes:
            print(mistake, file=sys.stderr)
        sys.exit(1 if mistakes else 0)
    if option == ["--write"]:
        lines = text.splitlines()
        for number, line in enumerate(lines):
            match = ROW.match(line)
            if match and match[1] in found:
                entries = "<br>".join(f"`{entry}`" for entry in found[match[1]])
                start = line.removesuffix("|").rsplit("|", 1)[0].rstrip()
                lines[number] = f"{start} | {entries} |"
        TABLE.write_text("\n".join(lines) + "\n")
    else:
        for case in order:
            for entry in found.get(case, []):
                print(f"{case}\t{entry}")
    missing = [case for case in order if case not in found]
    print(f"without a test: {', '.join(missing) or 'none'}", file=sys.stderr)
    for mistake in mistakes:
        print(mistake, file=sys.stderr)


main()
