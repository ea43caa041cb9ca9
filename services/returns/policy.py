"""The merchant's return policy, read from TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from ordermill.contracts.base import explain
from ordermill.contracts.returns import ReturnReason

from .errors import PolicyInvalid

BUILT_IN = Path(__file__).with_name("policy.toml")


class ReturnPolicy(BaseModel):
    """What may come back, for how long, and what of its price goes back. `policy.toml` explains each key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_days: Annotated[int, Field(ge=0, le=3_650, strict=True)]
    authorization_days: Annotated[int, Field(ge=1, le=365, strict=True)]
    our_fault: frozenset[ReturnReason]
    restocking_fee_percent: Annotated[int, Field(ge=0, le=100, strict=True)]
    final_sale_returnable_if_our_fault: StrictBool
    refund_shipping: StrictBool


def parse_policy(text: str, source: str) -> ReturnPolicy:
    """The policy that `text` (TOML) spells out; `source` names it in errors. Raises PolicyInvalid."""
    try:
        return ReturnPolicy.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise PolicyInvalid(source, explain(error)) from None
    except (ValueError, RecursionError) as error:  # more than TOMLDecodeError: too many digits or brackets
        raise PolicyInvalid(source, f"not TOML: {error}") from None


def read_policy(path: Path = BUILT_IN) -> ReturnPolicy:
    """The policy in a file. Raises PolicyInvalid, also if there is no such file."""
    try:
        return parse_policy(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyInvalid(str(path), f"can't be read: {error}") from None
