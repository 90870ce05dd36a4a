"""The demo as `make run` starts it, on free ports and in a folder of its own, and people who click through it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx
from lxml import html

from tests.servers.slapd import free_port

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "Tessera-demo-2026"
NAMES = ("server", "expense", "oa", "erp")


class Demo:
    """`python -m examples.run`."""

    def __init__(self, folder: Path, ports: list[int] | None = None) -> None:
        self.var = folder / "demo"
        self.ports = ports or [free_port() for _ in NAMES]
        self.output = ""

    def __enter__(self) -> Self:
        """Running until the context ends."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, **environment: str) -> str:
        """Returns what it printed until it was ready; raises when it ends before."""
        ports = [str(port) for port in self.ports]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.run", "--var", str(self.var), "--ports", *ports],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.output = ""
        for line in self.process.stdout:
            self.output += line
            if "Ctrl-C" in line:
                return self.output
        raise AssertionError(f"status {self.process.wait()}: {self.output}")

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ask it to end as Ctrl-C does; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            rest, _ = self.process.communicate(timeout=120)
            self.output += rest
        return self.process.wait()

    def url(self, name: str, path: str = "/") -> str:
        return f"http://localhost:{self.ports[NAMES.index(name)]}{path}"

    def secret(self, name: str) -> str:
        return (self.var / "secrets" / name).read_text(encoding="ascii")

    def processes(self) -> set[int]:
        """The demo's processes that live, children of children included."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        found: set[int] = set()
        layer = {self.process.pid}
        while layer := {child for child, parent in parents.items() if parent in layer}:
            found |= layer
        return found

    def person(self, login: str, language: str = "en") -> Person:
        """Somebody in front of a browser."""
        return Person(self, login, language)


class Person:
    """A browser that follows redirects and self-submitting forms from application to application, and its user."""

    def __init__(self, demo: Demo, login: str, language: str) -> None:
        self.demo = demo
        self.login = login
        self.http = httpx.Client(
            timeout=20,
            headers={"Accept-Language": language},
            follow_redirects=True,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self.passwords = 0

    def open(self, name: str, path: str = "/") -> Page:
        """Go to an application's page, signing in wherever a password is asked for."""
        page = self._arrived(self.http.get(self.demo.url(name, path)))
        if page.has("password"):
            self.passwords += 1
            page = page.submit("login", login=self.login, password=PASSWORD)
        return page

    def _arrived(self, answer: httpx.Response) -> Page:
        page = Page(self, answer)
        while page.has("SAMLResponse"):  # the POST binding's page submits itself
            page = page.submit("SAMLResponse")
        return page


class Page:
    """A page as it arrived."""

    def __init__(self, person: Person, answer: httpx.Response) -> None:
        self.person = person
        self.status = answer.status_code
        self.url = str(answer.url)
        self.host = urlsplit(self.url).netloc
        self.tree = html.fromstring(answer.content) if answer.content.strip() else html.Element("html")
        self.text = re.sub(r"\s+", " ", self.tree.text_content())

    def has(self, field: str) -> bool:
        """Whether there is an input of this name."""
        return bool(self.tree.xpath(f'//input[@name="{field}"]'))

    def submit(self, wanted: str, **fields: str) -> Page:
        """Send the form that has this field, or whose action ends so, with these fields filled in."""
        for form in self.tree.forms:
            if wanted in form.fields or (form.action or "").endswith(wanted):
                values = {**dict(form.form_values()), **fields}
                target = urljoin(self.url, form.action or "")
                return self.person._arrived(self.person.http.post(target, data=values))
        raise AssertionError(f"no form with {wanted!r} at {self.url}: {self.text[:500]}")

    def row(self, text: str) -> str:
        """The text of the table row that has this text, or an empty string."""
        for row in self.tree.xpath("//tr"):
            content = re.sub(r"\s+", " ", " ".join(cell.text_content() for cell in row)).strip()
            if text in content:
                return content
        return ""
