"""Every state of `schemas/` that was ever committed: what consumers may rely on.

A lock file of released shapes could be changed in the commit that breaks them, and the commit before may be where the
break was made. History can't be rewritten by a commit: so what is made now is held against all states on the way to
HEAD (first parents: what was only on a branch was never published). A shallow clone has no such history; the check then
refuses to say anything, rather than compare a state with itself.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from .files import GENERATED

Json = dict[str, Any]


class NoHistory(Exception):
    """Nothing to compare with that could be trusted."""


def committed_states(folder: Path) -> dict[tuple[str, str], Json]:
    """Every document that `schemas/` ever held: by its path in there and the newest commit that has it.

    Raises NoHistory.
    """
    root = Path(_git(folder, "rev-parse", "--show-toplevel").strip())
    if _git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise NoHistory("this clone is shallow, so earlier schemas are not known: git fetch --unshallow")
    inside = folder.resolve().relative_to(root.resolve()).as_posix()
    commits = _git(root, "rev-list", "--first-parent", "HEAD", "--", inside).split()
    seen: dict[tuple[str, str], str] = {}
    for commit in commits:
        for line in _git(root, "ls-tree", "-r", "-z", commit, "--", inside).split("\0"):
            if not line:
                continue
            about, _, path = line.partition("\t")
            name = path.removeprefix(f"{inside}/")
            if name.split("/")[0] in GENERATED and name.endswith(".json"):
                seen.setdefault((name, about.split()[2]), commit[:10])
    blobs = _blobs(root, sorted({blob for _, blob in seen}))
    return {(name, commit): blobs[blob] for (name, blob), commit in seen.items()}


def _blobs(root: Path, wanted: list[str]) -> dict[str, Json]:
    answer = subprocess.run(
        ["git", "-C", root, "cat-file", "--batch"], input="\n".join(wanted).encode(), capture_output=True, check=True
    ).stdout
    found: dict[str, Json] = {}
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        blob, _, size = answer[at:end].decode().split()
        found[blob] = json.loads(answer[end + 1 : end + 1 + int(size)])
        at = end + 1 + int(size) + 1
    return found


def _git(folder: Path, *command: str) -> str:
    try:
        return subprocess.run(["git", "-C", folder, *command], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", "") or str(error)
        raise NoHistory(f"git does not tell what was committed: {told.strip()}") from None
