"""A branch of the demo company with a directory of its own: a slapd whose people's names and mail are written back."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.servers.site import PASSWORD, Site
from tests.servers.slapd import SUFFIX, Slapd

CODE, ADMINISTRATOR = "branch", "diradmin"
PEOPLE, GROUPS, ACCOUNT, POLICY = (f"{one},{SUFFIX}" for one in ("ou=people", "ou=groups", "cn=tessera", "cn=policy"))
STAFF = {"ouyang": ("欧阳", "明"), "situ": ("司徒", "静"), "murong": ("慕容", "雪")}
EXPIRED = "murong"
RULES = f"""ppolicy_default "{POLICY}"
access to attrs=userPassword by dn.exact="{ACCOUNT}" write by anonymous auth
access to dn.subtree="{PEOPLE}" attrs=displayName,mail by dn.exact="{ACCOUNT}" write by * read
access to * by * read
limits dn.exact="{ACCOUNT}" size=unlimited
"""


class Branch:
    """Runs while the context is open; `join` makes the site read it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.slapd = Slapd(folder / "slapd", config=RULES)

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self.slapd.__enter__()
        people = "".join(
            f"dn: uid={login},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {login}\ncn: {family}{given}\nsn: {family}\n"
            f"givenName: {given}\ndisplayName: {family}{given}\nmail: {login}@branch.example\no: XH02\n"
            f"mobile: +86 138 0000 000{number}\nuserPassword: {PASSWORD}\n\n"
            for number, (login, (family, given)) in enumerate(STAFF.items())
        )
        self.slapd.add(
            f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: x\n\n"
            f"dn: {PEOPLE}\nobjectClass: organizationalUnit\n\ndn: {GROUPS}\nobjectClass: organizationalUnit\n\n"
            f"dn: {ACCOUNT}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
            f"userPassword: {PASSWORD}\n\n"
            f"dn: {POLICY}\nobjectClass: person\nobjectClass: pwdPolicy\ncn: policy\nsn: p\n"
            f"pwdAttribute: userPassword\npwdMustChange: TRUE\n\n{people}"
            f"dn: cn=branch-staff,{GROUPS}\nobjectClass: groupOfNames\n"
            + "".join(f"member: uid={login},{PEOPLE}\n" for login in STAFF)
        )
        self.change(EXPIRED, "pwdReset", "TRUE")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.slapd.__exit__(kind, error, trace)

    def change(self, login: str, attribute: str, value: str) -> None:
        """Change an attribute in the directory."""
        dn = f"uid={login},{PEOPLE}"
        self.slapd.modify(f"dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n")

    def join(self, site: Site) -> None:
        """The site reads this directory, too."""
        path = site.folder / "company.yaml"
        company: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        (site.folder / "branch.secret").write_text(PASSWORD)
        settings = {
            "urls": [self.slapd.url],
            "tls": "none",
            "bind_dn": ACCOUNT,
            "users_base": PEOPLE,
            "groups_base": GROUPS,
            "password_change": True,
        }
        source = {"code": CODE, "name": "华南分公司", "kind": "openldap", "settings": settings}
        company["directories"].append({**source, "secret": "file:branch.secret"})
        company["mappings"].append({"group": "branch-staff", "role": "business:employee"})
        path.write_text(yaml.safe_dump(company, allow_unicode=True), encoding="utf-8")
        site.flask("apply", str(path))
        site.flask("sync", CODE)
