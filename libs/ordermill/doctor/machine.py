"""This machine: what is installed, what is set, how much room is left."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from ordermill.names import CONSOLE, SERVICES
from ordermill.wrong_settings import faults_of, settings_models, unreadable

from .finding import Finding, Verdict

PACKAGES = (
    "ordermill", "aiokafka", "asyncpg", "cryptography", "eventsourcing", "fastapi", "faststream", "httpx",
    "opentelemetry-sdk", "pydantic",
)  # fmt: skip
DISK_WARN, DISK_BAD = 5 * 2**30, 2**30


def versions() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    found = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info >= (3, 11)
    yield Finding(
        "ok" if fits else "bad", "python", found, "" if fits else "Ordermill needs Python 3.11 or newer: install one"
    )
    there: list[str] = []
    missing: list[str] = []
    for name in PACKAGES:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding("ok", "packages", ", ".join(there))
    if gone := [name for name in missing if name != "ordermill"]:
        yield Finding("bad", "packages", f"not installed: {', '.join(gone)}", "pip install ordermill")


_WHO = re.compile(r"//[^/\s]*@")


def settings(show_all: bool) -> Iterator[Finding]:
    """Each variable as it is set, secrets masked; each one that is missing, wrong, or no setting at all."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    for service, prefix, model in settings_models():
        if prefix == "OMS_SIMULATOR_" and "OMS_SIMULATOR_PORT" not in os.environ:
            continue  # providers are real, or simulated elsewhere
        try:
            values = model(_env_prefix=prefix)
        except ValidationError as error:
            for fault in faults_of(error, service):
                yield Finding("bad", "setting", fault, "set it in the environment of every service")
            continue
        except SettingsError as error:
            yield Finding("bad", "setting", unreadable(error, service), "write it as JSON")
            continue
        for name, field in model.model_fields.items():
            variable = f"{prefix}{name.upper()}"
            if variable in os.environ or show_all:
                # A secret of ours prints as asterisks, whatever it holds; and so does who a URL is asked as.
                value = _WHO.sub("//***@", str(getattr(values, name)))
                by_default = "" if variable in os.environ else " (by default)"
                about = (field.description or "").rstrip(".")
                yield Finding("ok", "setting", f"{variable}={value}{by_default}  {about}")
    yield from unknown_settings()


def unknown_settings() -> Iterator[Finding]:
    """OMS_… variables that nothing reads: a name misspelled is a setting not made."""
    known = {"OMS_HOME", "OMS_THROWAWAY", "OMS_KEYRING_OWNER_URL", "OMS_SIMULATOR_URL"}
    for name in (*SERVICES, CONSOLE):
        known |= {f"OMS_{name.upper()}_{part}" for part in ("URL", "OWNER_URL")}
    for _, prefix, model in settings_models():
        known |= {f"{prefix}{name.upper()}" for name in model.model_fields}
    for variable in sorted(name for name in os.environ if name.startswith("OMS_") and name not in known):
        near = get_close_matches(variable, known, 1)
        remedy = f"did you mean {near[0]}?" if near else "take it out of the environment"
        yield Finding("warn", "setting", f"{variable}: there is no such setting", remedy)


def disk(home: Path) -> Iterator[Finding]:
    """Room where this machine's installation lies, and for temporary files; on a small file system by its share."""
    for what, path in (("disk", home if home.exists() else Path.cwd()), ("temporary disk", Path("/tmp"))):  # noqa: S108
        total, _, free = shutil.disk_usage(path)
        bad, warn = min(DISK_BAD, total // 10), min(DISK_WARN, total // 4)
        verdict: Verdict = "bad" if free < bad else "warn" if free < warn else "ok"
        yield Finding(verdict, what, f"{free / 2**30:.1f} GiB free at {path}", "" if verdict == "ok" else "make room")
