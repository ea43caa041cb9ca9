from __future__ import annotations

import sys
from pathlib import Path

from . import pages


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m ordermill.reference FOLDER")
    for name, write in pages().items():
        (Path(sys.argv[1]) / name).write_text(write())


if __name__ == "__main__":
    main()
