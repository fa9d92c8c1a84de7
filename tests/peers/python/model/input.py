"""Validation of external input."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from .problem import Problem

_ID = re.compile(r"[A-Za-z0-9_.@+|-]{1,128}")
_CODE = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9-]{3,32}")
_CURRENCY = re.compile(r"[A-Z]{3}")


def invalid(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "invalid_request", detail)


def _checked(name: str, value: Any, is_valid: Callable[[Any], Any]) -> Any:
    if not is_valid(value):
        raise invalid(f"{name}: cannot be read")
    return value


def _text(pattern: re.Pattern) -> Callable[[Any], Any]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value)


def identifier(name: str, value: Any) -> str:
    return _checked(name, value, _text(_ID))


def currency(name: str, value: Any) -> str:
    return _checked(name, value, _text(_CURRENCY))


def amount(name: str, value: Any) -> int:
    return _checked(name, value, lambda number: type(number) is int and 0 <= number < 2**53)


def code(value: Any) -> str | None:
    return value if value is None else _checked("code", value, _text(_CODE))


def fingerprint(value: Any) -> str | None:
    is_valid = lambda text: isinstance(text, str) and 1 <= len(text.encode()) <= 512  # noqa: E731
    return value if value is None else _checked("device_fingerprint", value, is_valid)


def time(name: str, value: Any) -> str | None:
    if value is None:
        return None
    try:
        return text_of(datetime.fromisoformat(value))
    except (TypeError, ValueError) as problem:
        raise invalid(f"{name}: cannot be read") from problem


def text_of(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    return text_of(datetime.now(UTC))


def body(value: Any) -> dict:
    if value is None or value == "":
        return {}
    return _checked("the body", value, lambda document: isinstance(document, dict))
