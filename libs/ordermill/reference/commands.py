"""`docs/reference/commands.md`: every command, as `oms COMMAND --help` shows it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from . import WRITTEN, cell

HEAD = f"""# Commands

{WRITTEN}
`oms` finds the installation of this machine in the folder `.ordermill`, or in the one that `OMS_HOME` names. Any
`OMS_…` variable that is set counts more than that installation's. Data goes to stdout, talk and errors to stderr;
tables are plain text where stdout is no terminal, and `--json` is there for programs.

Where services run elsewhere, `OMS_<SERVICE>_URL` says where each one's HTTP is, and `OMS_API_TOKEN` opens it.

| exit status | means |
| --- | --- |
| 0 | done |
| 1 | refused, nothing found, or something wrong found |
| 2 | wrong usage |
| 3 | unreachable, or no installation |
| 130 | interrupted |
"""


def reference() -> str:
    """The whole page."""
    from ordermill.cli import app

    sections = [_section(path, command) for path, command in _commands("oms", get_command(app))]
    return HEAD + "".join(sections)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _commands(f"{path} {name}", child)


def _section(path: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument" and not each.hidden]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *(_argument(each) for each in arguments)])
    text = inspect.cleandoc(command.help or "")
    lines = [f"\n## {path}\n", f"```\n{usage}\n```\n", f"{text}\n"]
    rows = [(_argument(each), each.help or "") for each in arguments if each.help]
    rows += [(_option(each), _about(each)) for each in options if each.name != "help"]
    if rows:
        lines.append(
            "| | |\n| --- | --- |\n" + "\n".join(f"| `{name}` | {cell(about)} |" for name, about in rows) + "\n"
        )
    return "\n".join(lines)


def _argument(param: Any) -> str:
    name = param.metavar or param.name.upper()
    name = name if param.required else f"[{name}]"
    return f"{name}…" if param.nargs == -1 else str(name)


def _option(param: Any) -> str:
    names = ", ".join(sorted((*param.opts, *param.secondary_opts), key=lambda name: (name.count("-"), name)))
    if param.is_flag:
        return names
    kind = getattr(param.type_descriptor.annotation, "__name__", "")
    return f"{names} {param.metavar or {'int': 'N', 'float': 'N'}.get(kind, 'TEXT')}"


def _about(param: Any) -> str:
    about = (param.help or "").rstrip(".")
    parts = [about] if about else []
    if param.required:
        parts.append("Required")
    elif param.default not in (None, "", (), []) and not param.is_flag:
        parts.append(f"Default: {param.default}")
    return ". ".join(parts) + ("." if parts else "")
