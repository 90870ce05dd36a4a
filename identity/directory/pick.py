"""A few people read without the rest: their entries, the groups that they are in, and the departments."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ldap3.utils.conv import escape_filter_chars

from identity.directory.connection import search_all, search_once
from identity.directory.dn import parse
from identity.directory.reader import DirectoryEntry, EntryKind, ReadIncomplete, Reading
from identity.directory.settings import DirectorySettings

PICKED_MAX = 50


@dataclass(frozen=True, slots=True)
class Way:
    """How one kind of server is asked: the attributes and the making of an entry, the filter for an id, and filters for
    groups that a found user is in without standing in their members."""

    attributes: Callable[[EntryKind], Sequence[str]]
    entry: Callable[[EntryKind, Mapping[str, Any]], DirectoryEntry]
    by_id: Callable[[str], str]
    more_groups: Callable[[Mapping[str, Any]], Sequence[str]] = lambda _: ()


def pick(
    connection: Any, settings: DirectorySettings, url: str, way: Way, login: str | None, ids: Collection[str]
) -> Reading:
    """The users with this login or these ids (at most `PICKED_MAX`), their groups with no other members than them, and
    all departments. An id that is not there is gone; raises `ReadIncomplete` when no user is there at all."""
    ends = time.monotonic() + settings.read_timeout_s

    def search(base: str, wanted: str, attributes: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        found = search_all(connection, settings, base, wanted, attributes, ends) if base else ()
        return (one for one in found if parse(one["dn"]) != parse(base))

    chosen = [way.by_id(one) for one in sorted(ids)]
    if login is not None:
        chosen.append(f"({settings.attributes.login}={escape_filter_chars(login)})")
    wanted = f"(&{settings.users_filter}(|{''.join(chosen)}))"
    people = [(one, way.entry("user", one)) for one in search(settings.users_base, wanted, way.attributes("user"))]
    gone = frozenset(ids) - {entry.immutable_id for _, entry in people}
    if gone and not people:
        _check_people(connection, settings)
    member = settings.attributes.member
    names = [one for one in way.attributes("group") if one.lower() != member.lower()]
    groups: dict[str, DirectoryEntry] = {}
    for raw, person in people:
        inside = "".join([f"({member}={escape_filter_chars(str(raw['dn']))})", *way.more_groups(raw)])
        for one in search(settings.groups_base, f"(&{settings.groups_filter}(|{inside}))", names):
            group = way.entry("group", one)
            before = groups.get(group.immutable_id, replace(group, members=()))
            groups[group.immutable_id] = replace(before, members=(*before.members, person.dn))
    places = search(settings.departments_base, settings.departments_filter, way.attributes("department"))
    departments = [way.entry("department", one) for one in places]
    entries = (*departments, *(entry for _, entry in people), *groups.values())
    return Reading(entries, complete=False, gone=gone, server=url)


def _check_people(connection: Any, settings: DirectorySettings) -> None:
    """Nobody found may be a right that we lost: then nobody else is seen either."""
    search_once(
        connection, settings.users_base, settings.users_filter, [settings.key], settings.page_timeout_s, paged_size=2
    )
    if not any(one["type"] == "searchResEntry" for one in connection.response):
        raise ReadIncomplete("The directory holds no users.", settings.users_base, code="read_empty")
