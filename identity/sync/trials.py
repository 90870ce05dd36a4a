"""One entry tried: as its directory says it, as we would take it, and what an expression makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from identity.core.errors import Invalid, NotFound, TesseraError
from identity.directory.factory import open_directory, read_secret
from identity.directory.models import DirectorySource
from identity.directory.probe import Probe, probe
from identity.directory.settings import DirectorySettings, Transform
from identity.directory.transform import FIELDS, Transformer, try_one
from identity.directory.writable import written_fields
from identity.sync.plan import end_of

USER_FIELDS = tuple(name for name in FIELDS if not name.startswith(("group_", "department_")))


@dataclass(frozen=True, slots=True)
class Trial:
    """`said`: the directory's attributes; `taken`: our fields as they would be; `made`: what the tried expression
    gives, or `fault` why it gives nothing."""

    said: Mapping[str, tuple[str, ...]]
    taken: Mapping[str, str | None]
    made: str | None = None
    fault: str | None = None


def try_entry(source: DirectorySource, login: str, field: str, expression: str | None) -> Trial:
    """Read the entry of this login and make everything of it; raises `NotFound` when there is none, and whatever
    reading raises."""
    settings = DirectorySettings.load(source.kind, source.settings)
    tried = _transform(field, expression) if expression else None
    reading = settings
    if tried is not None:
        others = tuple(one for one in settings.transforms if one.field != field)
        reading = settings.model_copy(update={"transforms": (*others, tried)})
    directory = open_directory(source.kind, reading.model_dump(mode="json", exclude={"kind"}), source.secret_ref)
    try:
        entry = directory.sample(login)
    finally:
        directory.close()
    if entry is None:
        raise NotFound("The directory has no such entry.")
    transformer = Transformer(settings)
    taken = transformer.entry(entry)
    names = transformer.settings.attributes
    fields = {name: taken.first(getattr(names, name)) for name in USER_FIELDS}
    fields["valid_until"] = end_of(entry.valid_until)
    if tried is None:
        return Trial(entry.attributes, fields)
    try:
        return Trial(entry.attributes, fields, try_one(tried, entry, settings))
    except TesseraError as error:
        return Trial(entry.attributes, fields, None, error.detail or error.public)


def probe_source(source: DirectorySource) -> Probe:
    """Try each right that the source needs; raises `Invalid` for settings or a secret that cannot be."""
    settings = DirectorySettings.load(source.kind, source.settings)
    directory = open_directory(source.kind, source.settings, source.secret_ref)
    try:
        secret = read_secret(source.secret_ref) if source.secret_ref else ""
        return probe(settings, secret, directory, written_fields(settings, source.write_back))
    finally:
        directory.close()


def _transform(field: str, expression: str) -> Transform:
    try:
        return Transform.model_validate({"field": field, "expression": expression})
    except ValidationError:
        raise Invalid("The form is not complete.", code="form") from None
