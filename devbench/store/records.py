"""The records of `devbench.model` to JSON and back, guided by their own annotations.

A field that holds its default is left out, so a new field with a default needs no new schema version,
and the default of a field must never change its value. Text is made valid Unicode, and numbers that
JSON has no notation for travel as the strings ``inf``, ``-inf`` and ``nan``.
"""

from __future__ import annotations

import difflib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union

from devbench.model import Json

Record = TypeVar("Record")

#: Annotations are strings until they are asked for.
_hints: Callable[[Any], dict[str, Any]] = cache(typing.get_type_hints)

_PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class Misfit(Exception):
    """JSON that is not the record it should be: the path of the culprit, and what is wrong with it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}" if path else f"the content {problem}")


def to_json(record: Any) -> dict[str, Json]:
    """A record as a JSON object; `tuple[tuple[str, …], …]` becomes an object in the same order."""
    hints = _hints(type(record))
    return {
        field.name: _encode(hints[field.name], value)
        for field in fields(record)
        if (value := getattr(record, field.name)) != _default(field)
    }


def from_json(cls: type[Record], data: Json, path: str = "", *, unknown: str = "refuse") -> Record:
    """The record that `data` describes. Raises Misfit.

    unknown: fields that `cls` does not have, as a newer devbench may write, are to ``refuse`` or to
    ``ignore``.
    """
    if not isinstance(data, dict):
        raise Misfit(path, f"is {shown(data)}; an object is expected")
    hints = _hints(cls)
    prefix = f"{path}." if path else ""
    if unknown == "refuse":
        for name in data:
            if name not in hints:
                close = difflib.get_close_matches(name, hints, n=1)
                guess = f"; did you mean {close[0]!r}?" if close else ""
                raise Misfit(f"{prefix}{name}", f"is not a field that this devbench knows{guess}")
    values = {}
    for field in fields(cls):  # type: ignore[arg-type]  # records only
        if field.name in data:
            values[field.name] = _decode(hints[field.name], data[field.name], prefix + field.name)
        elif _default(field) is MISSING:
            raise Misfit(prefix + field.name, "is missing")
    return cls(**values)


def free_json(value: Mapping[str, Any]) -> Json:
    """A mapping without a schema (settings, environment) as JSON."""
    return _clean(value)


def dumps(value: Json) -> str:
    """Compact JSON of what `to_json` gives; ASCII only, so any database encoding holds it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def shown(value: Json) -> str:
    """A piece of JSON as an error message shows it: short, on one line."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _is_pairs(hint: Any) -> bool:
    """Whether it reads ``tuple[tuple[str, X], ...]``: an ordered mapping."""
    return typing.get_origin(hint) is tuple and typing.get_origin(typing.get_args(hint)[0]) is tuple


def _encode(hint: Any, value: Any) -> Json:
    if is_dataclass(value):
        return to_json(value)
    return _clean(dict(value) if _is_pairs(hint) else value)


def _clean(value: Any) -> Json:
    if isinstance(value, str):
        # A worker's output may hold bytes that are no text; half a surrogate pair is no Unicode.
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def _decode(hint: Any, value: Json, path: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if hint in _PLAIN:
        return _plain(hint, value, path)
    if origin is Literal:
        if value not in arguments:
            raise Misfit(path, f"is {shown(value)}; it must be one of {', '.join(arguments)}")
        return value
    if origin in (Union, types.UnionType):
        return _alternative(arguments, value, path)
    if _is_pairs(hint):
        return _pairs(typing.get_args(arguments[0])[1], value, path)
    if origin is tuple:
        if not isinstance(value, list):
            raise Misfit(path, f"is {shown(value)}; a list is expected")
        return tuple(_decode(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise Misfit(path, f"is {shown(value)}; an object is expected")
        return value
    return from_json(hint, value, path)


def _plain(hint: type, value: Json, path: str) -> Any:
    if hint is float:
        if value in ("inf", "-inf", "nan"):
            return float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
            return value
    elif type(value) is hint:
        if _clean(value) != value:
            raise Misfit(path, "holds half a surrogate pair, which is no text")
        return value
    raise Misfit(path, f"is {shown(value)}; {_PLAIN[hint]} is expected")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of a float
        return False


def _alternative(hints: tuple[Any, ...], value: Json, path: str) -> Any:
    if value is None and type(None) in hints:
        return None
    choices = [hint for hint in hints if hint is not type(None)]
    if len(choices) == 1:
        return _decode(choices[0], value, path)
    for hint in choices:
        try:
            return _decode(hint, value, path)
        except Misfit:
            continue
    raise Misfit(
        path, f"is {shown(value)}; {' or '.join(_PLAIN[hint] for hint in choices)} is expected"
    )


def _pairs(hint: Any, value: Json, path: str) -> tuple[tuple[str, Any], ...]:
    if not isinstance(value, dict):
        raise Misfit(path, f"is {shown(value)}; an object is expected")
    return tuple((name, _decode(hint, item, f"{path}.{name}")) for name, item in value.items())
