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
from functools import cache, partial
from typing import Any, Literal, TypeAlias, TypeVar, Union

from devbench.model import Json

Record = TypeVar("Record")
#: From a piece of JSON and its path in the whole to a value.
Decoder: TypeAlias = Callable[[Json, str], Any]

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


def from_json(
    cls: type[Record],
    data: Json,
    path: str = "",
    *,
    unknown: str = "refuse",
    ready: Mapping[str, Any] | None = None,
) -> Record:
    """The record that `data` describes. Raises Misfit.

    unknown: fields that `cls` does not have, as a newer devbench may write, are to ``refuse`` or to
    ``ignore``. ready: fields that are no JSON, taken as they are.
    """
    if not isinstance(data, dict):
        raise Misfit(path, f"is {shown(data)}; an object is expected")
    known = _known(typing.cast(Any, cls))  # a type is hashable, whatever mypy thinks of it
    prefix = f"{path}." if path else ""
    if unknown == "refuse":
        for name in data:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                guess = f"; did you mean {close[0]!r}?" if close else ""
                raise Misfit(f"{prefix}{name}", f"is not a field that this devbench knows{guess}")
    values = dict(ready or ())
    for name, (decode, required) in known.items():
        if name in data:
            values[name] = decode(data[name], prefix + name)
        elif required and name not in values:
            raise Misfit(prefix + name, "is missing")
    return cls(**values)


@cache
def _known(cls: Any) -> dict[str, tuple[Decoder, bool]]:
    """The fields of a record: how each is decoded, and whether it must be there."""
    hints = _hints(cls)
    return {
        field.name: (_decoder(hints[field.name]), _default(field) is MISSING)
        for field in fields(cls)
    }


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


@cache
def _decoder(hint: Any) -> Decoder:
    """How a value with this annotation is decoded. Annotations are looked at once, since a store holds
    the same record a million times."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value, path: value
    if hint in _PLAIN:
        return partial(_plain, hint)
    if origin is Literal:
        return partial(_literal, arguments)
    if origin in (Union, types.UnionType):
        choices = tuple(choice for choice in arguments if choice is not type(None))
        return partial(_alternative, choices, type(None) in arguments)
    if _is_pairs(hint):
        return partial(_pairs, typing.get_args(arguments[0])[1])
    if origin is tuple:
        return partial(_list, arguments[0])
    if origin is not None and issubclass(origin, Mapping):
        return _object if arguments[1] is Any else partial(_mapping, arguments[1])
    return partial(from_json, hint)


def _plain(hint: type, value: Json, path: str) -> Any:
    if hint is float:
        if value in ("inf", "-inf", "nan"):
            return float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
            return value
    elif type(value) is hint:
        if isinstance(value, str) and not value.isascii() and _clean(value) != value:
            raise Misfit(path, "holds half a surrogate pair, which is no text")
        return value
    raise Misfit(path, f"is {shown(value)}; {_PLAIN[hint]} is expected")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of a float
        return False


def _literal(choices: tuple[str, ...], value: Json, path: str) -> Any:
    if value not in choices:
        raise Misfit(path, f"is {shown(value)}; it must be one of {', '.join(choices)}")
    return value


def _alternative(choices: tuple[Any, ...], may_be_none: bool, value: Json, path: str) -> Any:
    if value is None and may_be_none:
        return None
    if len(choices) == 1:
        return _decoder(choices[0])(value, path)
    for hint in choices:
        try:
            return _decoder(hint)(value, path)
        except Misfit:
            continue
    raise Misfit(
        path, f"is {shown(value)}; {' or '.join(_PLAIN[hint] for hint in choices)} is expected"
    )


def _list(hint: Any, value: Json, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise Misfit(path, f"is {shown(value)}; a list is expected")
    decode = _decoder(hint)
    return tuple(decode(item, f"{path}[{i}]") for i, item in enumerate(value))


def _object(value: Json, path: str) -> Json:
    if not isinstance(value, dict):
        raise Misfit(path, f"is {shown(value)}; an object is expected")
    return value


def _mapping(hint: Any, value: Json, path: str) -> dict[str, Any]:
    return dict(_pairs(hint, value, path))


def _pairs(hint: Any, value: Json, path: str) -> tuple[tuple[str, Any], ...]:
    decode = _decoder(hint)
    return tuple(
        (name, decode(item, f"{path}.{name[:60]}")) for name, item in _object(value, path).items()
    )
