#!/usr/bin/env python3
"""Checks the relative links of every Markdown file of the repository: the file must exist and, where
the link names a heading, so must the heading. Also that every page of the book is in its summary.

Prints each broken link as FILE:LINE and exits with 1 if there is one. Needs only Python 3 and git.
"""

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
FENCE = re.compile(r"^\s*(```|~~~)")


def lines_outside_code(path):
    """Yields (line number, line) of what is prose: fenced blocks left out, code spans blanked."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, re.sub(r"`[^`]*`", lambda code: " " * len(code.group()), line)


def anchors(path):
    """The heading anchors of a page, as mdBook and GitHub make them."""
    found = set()
    fenced = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if FENCE.match(line):
            fenced = not fenced
        heading = re.match(r"#{1,6}\s+(.*)", line)
        if heading and not fenced:
            text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1)).strip().lower()
            text = unicodedata.normalize("NFKC", text)
            found.add("".join(c for c in text.replace(" ", "-") if c.isalnum() or c in "-_"))
    return found


def broken_links(path):
    for number, line in lines_outside_code(path):
        for target in LINK.findall(line):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            file, _, anchor = target.partition("#")
            aim = (path.parent / file).resolve() if file else path
            if not aim.exists():
                yield f"{path.relative_to(ROOT)}:{number}: there is no {target}"
            elif anchor and aim.suffix == ".md" and anchor not in anchors(aim):
                yield f"{path.relative_to(ROOT)}:{number}: {file or 'this page'} has no heading #{anchor}"


def orphans(source):
    summary = source / "SUMMARY.md"
    listed = {(source / target).resolve() for target in LINK.findall(summary.read_text(encoding="utf-8"))}
    for page in sorted(source.rglob("*.md")):
        if page != summary and page.resolve() not in listed:
            yield f"{page.relative_to(ROOT)}:1: the page is not in {summary.relative_to(ROOT)}"


def main():
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    pages = [ROOT / name for name in tracked.split("\0") if name and (ROOT / name).exists()]
    problems = [problem for page in pages for problem in broken_links(page)]
    problems += orphans(ROOT / "docs" / "src")
    print("\n".join(problems) or f"{len(pages)} pages, every relative link leads somewhere")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
