"""Whether records are what their kinds declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from identity.audit.kinds import Kind
from identity.audit.payloads import payload_of
from tests.kinds_made import saw


def misfits(bodies: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with the data of these records, each kind once."""
    found: dict[str, str] = {}
    for body in bodies:
        kind = body["kind"]
        saw(kind)
        if kind not in found:
            for fault in _faults(body.get("data", {}), payload_of(Kind(kind)), "data"):
                found[kind] = f"{found[kind]}; {fault}" if kind in found else f"{kind}: {fault}"
    return list(found.values())


@cache
def _fields(payload: type) -> Mapping[str, tuple[Any, bool]]:
    """Name → (type, whether it must be there)."""
    hints = get_type_hints(payload, include_extras=True)
    optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    return {
        name: (get_args(hint)[0] if name in optional else hint, name not in optional) for name, hint in hints.items()
    }


def _faults(value: Any, wanted: Any, where: str) -> Iterator[str]:
    """What keeps this JSON value from being of this type."""
    origin, parts = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return
    if origin in {Union, UnionType}:
        if all(any(_faults(value, one, where)) for one in parts):
            yield f"{where} is {value!r}, not {wanted}"
    elif is_typeddict(wanted):
        yield from _object_faults(value, wanted, where) if isinstance(value, dict) else [f"{where} is no object"]
    elif not _is(value, origin or wanted):
        yield f"{where} is {value!r}, not {wanted}"
    elif origin is list:
        for one in value:
            yield from _faults(one, parts[0], f"{where}[]")
    elif origin is dict:
        for name, one in value.items():
            yield from _faults(one, parts[1], f"{where}.{name}")


def _object_faults(value: Mapping[str, Any], wanted: type, where: str) -> Iterator[str]:
    fields = _fields(wanted)
    yield from (f"{where}.{name} is not declared" for name in value.keys() - fields.keys())
    for name, (hint, required) in fields.items():
        if name in value:
            yield from _faults(value[name], hint, f"{where}.{name}")
        elif required:
            yield f"{where}.{name} is missing"


def _is(value: Any, wanted: type) -> bool:
    """JSON has one kind of number, and true is none."""
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)
