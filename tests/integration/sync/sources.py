"""A small company in every kind of source, changed as its administrator would change it there."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import Any, ClassVar, Protocol

from argon2 import PasswordHasher

from tests.servers import samba
from tests.servers.slapd import ADMIN_DN, ADMIN_PASSWORD, SUFFIX, Slapd
from tests.world import PASSWORD

PEOPLE, GROUPS, UNITS = (f"ou={name},{SUFFIX}" for name in ("people", "groups", "departments"))
ARGON2 = "{ARGON2}" + PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)


class Source(Protocol):
    """A directory under test."""

    kind: str
    secret: str

    def settings(self) -> dict[str, Any]: ...
    def add(self, login: str, **attributes: str) -> None: ...
    def change(self, login: str, **attributes: str) -> None: ...
    def rename(self, login: str, new: str) -> None: ...
    def user_dn(self, login: str) -> str: ...
    def disable(self, login: str) -> None: ...
    def enable(self, login: str) -> None: ...
    def remove(self, login: str) -> None: ...
    def restore(self, login: str) -> None: ...
    def group(self, name: str, *members: str) -> None:
        """The group has exactly these members: logins, or `@name` for a group."""
        ...

    def department(self, code: str, name: str, company: str | None = None, under: str | None = None) -> None: ...


def user_dn(login: str) -> str:
    return f"uid={login},{PEOPLE}"


def group_dn(name: str) -> str:
    return f"cn={name},{GROUPS}"


def member_dn(member: str) -> str:
    return group_dn(member[1:]) if member.startswith("@") else user_dn(member)


class LdifSource:
    """A file, written anew at each change."""

    kind = "ldif"
    secret = ""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "people.ldif"
        self._users: dict[str, dict[str, str]] = {}
        self._gone: dict[str, dict[str, str]] = {}
        self._groups: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._units: dict[str, tuple[str, str, str | None]] = {}
        self.write()

    def settings(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "users_base": PEOPLE,
            "groups_base": GROUPS,
            "departments_base": UNITS,
        }

    def add(self, login: str, **attributes: str) -> None:
        self._users[login] = {"entryUUID": str(uuid.uuid4()), "sn": login, "cn": login, **attributes}
        self.write()

    def change(self, login: str, **attributes: str) -> None:
        self._users[login] |= attributes
        self.write()

    def user_dn(self, login: str) -> str:
        return user_dn(login)

    def rename(self, login: str, new: str) -> None:
        self._users = {new if name == login else name: values for name, values in self._users.items()}
        self._groups = {
            name: (key, tuple(new if one == login else one for one in members))
            for name, (key, members) in self._groups.items()
        }
        self.write()

    def disable(self, login: str) -> None:
        self.change(login, pwdAccountLockedTime="000001010000Z")

    def enable(self, login: str) -> None:
        del self._users[login]["pwdAccountLockedTime"]
        self.write()

    def remove(self, login: str) -> None:
        self._gone[login] = self._users.pop(login)
        self.write()

    def restore(self, login: str) -> None:
        self._users[login] = self._gone.pop(login)
        self.write()

    def group(self, name: str, *members: str) -> None:
        self._groups[name] = (self._groups.get(name, (str(uuid.uuid4()),))[0], members)
        self.write()

    def rename_group(self, name: str, new: str) -> None:
        self._groups = {new if one == name else one: values for one, values in self._groups.items()}
        self.write()

    def department(self, code: str, name: str, company: str | None = None, under: str | None = None) -> None:
        dn = f"ou={code},{self._units[under][0] if under else UNITS}"
        self._units[code] = (dn, name, company)
        self.write()

    def write(self) -> None:
        lines = ["version: 1", ""]
        for code, (dn, name, company) in self._units.items():
            lines += [f"dn: {dn}", "objectClass: organizationalUnit", f"ou: {code}", f"description: {name}"]
            lines += [f"l: {company}"] if company else []
            lines += [f"entryUUID: {uuid.uuid5(uuid.NAMESPACE_DNS, code)}", ""]
        for login, values in self._users.items():
            lines += [f"dn: {user_dn(login)}", "objectClass: inetOrgPerson", f"uid: {login}"]
            lines += [f"{name}: {value}" for name, value in values.items()]
            lines += [f"userPassword: {ARGON2}", ""]
        for name, (key, members) in self._groups.items():
            lines += [f"dn: {group_dn(name)}", "objectClass: groupOfNames", f"cn: {name}", f"entryUUID: {key}"]
            lines += [*(f"member: {member_dn(one)}" for one in members), ""]
        self.path.write_text("\n".join(lines), encoding="utf-8")


class SlapdSource:
    """A private slapd; `tls` is how it is spoken to."""

    kind = "openldap"
    secret = ADMIN_PASSWORD

    def __init__(self, slapd: Slapd, tls: str = "none", ca_file: Path | None = None) -> None:
        self.slapd = slapd
        self._tls = tls
        self._ca_file = ca_file
        self._units: dict[str, str] = {}
        self._groups: set[str] = set()
        self._gone: dict[str, str] = {}
        slapd.add(
            f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: x\n\n"
            + "\n".join(f"dn: {base}\nobjectClass: organizationalUnit\n" for base in (PEOPLE, GROUPS, UNITS))
        )

    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "urls": [self.slapd.tls_url if self._tls == "ldaps" else self.slapd.url],
            "tls": self._tls,
            "bind_dn": ADMIN_DN,
            "users_base": PEOPLE,
            "groups_base": GROUPS,
            "departments_base": UNITS,
        }
        return found | ({"ca_file": str(self._ca_file)} if self._ca_file else {})

    def add(self, login: str, **attributes: str) -> None:
        values = {"sn": login, "cn": login, **attributes, "userPassword": PASSWORD}
        lines = "".join(f"{name}: {value}\n" for name, value in values.items())
        self.slapd.add(f"dn: {user_dn(login)}\nobjectClass: inetOrgPerson\nuid: {login}\n{lines}")

    def change(self, login: str, **attributes: str) -> None:
        body = "-\n".join(f"replace: {name}\n{name}: {value}\n" for name, value in attributes.items())
        self.slapd.modify(f"dn: {user_dn(login)}\nchangetype: modify\n{body}")

    def user_dn(self, login: str) -> str:
        return user_dn(login)

    def rename(self, login: str, new: str) -> None:
        self.slapd.modify(f"dn: {user_dn(login)}\nchangetype: modrdn\nnewrdn: uid={new}\ndeleteoldrdn: 1\n")

    def disable(self, login: str) -> None:
        self.slapd.lock(user_dn(login))

    def enable(self, login: str) -> None:
        self.slapd.modify(f"dn: {user_dn(login)}\nchangetype: modify\ndelete: pwdAccountLockedTime\n")

    def remove(self, login: str) -> None:
        found = self.slapd.search(user_dn(login), "*", "entryUUID")
        kept = [line for line in found.splitlines() if not line.startswith("memberOf:")]
        self._gone[login] = "\n".join(kept) + "\n"
        self.slapd.modify(f"dn: {user_dn(login)}\nchangetype: delete\n")

    def restore(self, login: str) -> None:
        self.slapd.add(self._gone.pop(login))

    def group(self, name: str, *members: str) -> None:
        values = "".join(f"member: {member_dn(one)}\n" for one in members)
        if name in self._groups:
            self.slapd.modify(f"dn: {group_dn(name)}\nchangetype: modify\nreplace: member\n{values}")
        else:
            self.slapd.add(f"dn: {group_dn(name)}\nobjectClass: groupOfNames\ncn: {name}\n{values}")
            self._groups.add(name)

    def department(self, code: str, name: str, company: str | None = None, under: str | None = None) -> None:
        dn = f"ou={code},{self._units[under] if under else UNITS}"
        place = f"l: {company}\n" if company else ""
        self.slapd.add(f"dn: {dn}\nobjectClass: organizationalUnit\nou: {code}\ndescription: {name}\n{place}")
        self._units[code] = dn


class SambaSource:
    """An organizational unit of a Samba domain. An entry that is removed is moved away, as administrators do first."""

    kind = "active_directory"
    secret = samba.ADMIN_PASSWORD
    names: ClassVar = {"departmentNumber": "department", "o": "company", "employeeNumber": "employeeID"}

    def __init__(self, server: samba.Samba) -> None:
        self.server = server
        self.base = server.fresh_base()
        self.people, self.groups, self.units = (
            f"OU={name},{self.base}" for name in ("people", "groups", "departments")
        )
        self.away = f"OU=away,{self.base}"
        for dn in (self.people, self.groups, self.units, self.away):
            self.modify(dn, "add", "objectClass: organizationalUnit\n")
        self._units: dict[str, str] = {}
        self._groups: set[str] = set()

    def modify(self, dn: str, verb: str, body: str = "") -> None:
        self.server.modify(f"dn: {dn}\nchangetype: {verb}\n{body}")

    def settings(self) -> dict[str, Any]:
        return {
            "urls": [self.server.tls_url],
            "ca_file": str(self.server.ca_file),
            "bind_dn": samba.ADMIN,
            "users_base": self.people,
            "groups_base": self.groups,
            "departments_base": self.units,
        }

    def user_dn(self, login: str) -> str:
        return f"CN={login},{self.people}"

    def add(self, login: str, **attributes: str) -> None:
        secret = base64.b64encode(f'"{PASSWORD}"'.encode("utf-16-le")).decode()
        values = {"sAMAccountName": login, **{self.names.get(one, one): text for one, text in attributes.items()}}
        lines = "".join(f"{name}: {value}\n" for name, value in values.items())
        self.modify(
            self.user_dn(login), "add", f"objectClass: user\n{lines}userAccountControl: 512\nunicodePwd:: {secret}\n"
        )

    def change(self, login: str, **attributes: str) -> None:
        values = {self.names.get(one, one): text for one, text in attributes.items()}
        body = "-\n".join(f"replace: {name}\n{name}: {value}\n" for name, value in values.items())
        self.modify(self.user_dn(login), "modify", body)

    def rename(self, login: str, new: str) -> None:
        self.modify(self.user_dn(login), "modrdn", f"newrdn: CN={new}\ndeleteoldrdn: 1\n")
        self.change(new, sAMAccountName=new)

    def disable(self, login: str) -> None:
        self.change(login, userAccountControl="514")

    def enable(self, login: str) -> None:
        self.change(login, userAccountControl="512")

    def remove(self, login: str) -> None:
        self._move(self.user_dn(login), login, self.away)

    def restore(self, login: str) -> None:
        self._move(f"CN={login},{self.away}", login, self.people)

    def _move(self, dn: str, login: str, to: str) -> None:
        self.modify(dn, "modrdn", f"newrdn: CN={login}\ndeleteoldrdn: 1\nnewsuperior: {to}\n")

    def group(self, name: str, *members: str) -> None:
        dns = [f"CN={one[1:]},{self.groups}" if one.startswith("@") else self.user_dn(one) for one in members]
        values = "".join(f"member: {dn}\n" for dn in dns)
        dn = f"CN={name},{self.groups}"
        if name in self._groups:
            self.modify(dn, "modify", f"replace: member\n{values}")
        else:
            self.modify(dn, "add", f"objectClass: group\nsAMAccountName: {name}\n{values}")
            self._groups.add(name)

    def department(self, code: str, name: str, company: str | None = None, under: str | None = None) -> None:
        dn = f"OU={code},{self._units[under] if under else self.units}"
        place = f"l: {company}\n" if company else ""
        self.modify(dn, "add", f"objectClass: organizationalUnit\ndescription: {name}\n{place}")
        self._units[code] = dn

    def clear(self) -> None:
        """Names are unique in a domain: leave none for the next test. A primary group goes after its people only."""
        for dn in (self.people, self.base):
            self.server.delete_tree(dn)
