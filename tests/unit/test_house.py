"""The house rules, checked by reading the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from identity.app import create_app
from identity.core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p for top in ("identity", "policies") for p in (ROOT / top).rglob("*.py"))
ROWS = {
    **dict.fromkeys(("core",), 0),
    "audit": 1,
    "keys": 2,
    **dict.fromkeys(("events", "directory", "shipping"), 3),
    "people": 4,
    "apps": 5,
    "roles": 6,
    "access": 7,
    "claims": 8,
    **dict.fromkeys(("login", "sync"), 9),
    **dict.fromkeys(("reports", "alarms"), 10),
    "configuration": 11,
    **dict.fromkeys(("oauth", "saml", "cas", "forward", "authzen", "api", "console", "jobs"), 12),
}
ONLY_IN = {
    "flask": (
        *("routes", "identity/app.py", "identity/cli", "identity/core/web.py", "identity/core/db.py"),
        *("identity/core/present.py", "identity/login/gate.py"),
    ),
    "ldap3": ("identity/directory/",),
    "xmlsec": ("identity/saml/",),
    "onelogin": ("identity/saml/",),
    "lxml": ("identity/saml/", "identity/core/xml.py"),
    "authlib": ("identity/oauth/",),
    "joserfc": ("identity/core/jose.py",),
    "casbin": ("policies/casbin_form.py",),
}
# `console` shows what the areas beside it run; `jobs` runs what they own; `api` explains AuthZEN's own requests.
NEIGHBOURS = {("console", "jobs"), ("api", "authzen")}


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, node.lineno))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_keeps_the_rules_of_the_house(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len(source.splitlines()) <= 400, f"{name} is too long"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{name}:{node.lineno} {node.name} is too long"
            inner = [one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom)]
            assert not inner, f"{name}:{node.lineno} imports inside a function"
    for module, line in imports(tree):
        top = module.partition(".")[0]
        allowed = ONLY_IN.get(top)
        if allowed:
            assert any(part in name for part in allowed), f"{name}:{line} must not import {top}"
        if name.startswith("policies/"):
            assert top not in {"identity", "flask", "sqlalchemy"}, f"{name}:{line}: policies is pure"
        check_row(name, module, line)


def check_row(name: str, module: str, line: int) -> None:
    parts, target = name.split("/"), module.split(".")
    if parts[0] != "identity" or len(parts) < 3 or target[0] != "identity" or len(target) < 2:
        return
    here, there = parts[1], target[1]
    if here == there:
        return
    assert there in ROWS, f"{name}:{line}: {here} must not import what stands above every area ({there})"
    assert (here, there) in NEIGHBOURS or ROWS[here] > ROWS[there], f"{name}:{line}: {here} must not import {there}"


def test_every_route_says_what_protects_it(tmp_path: Path) -> None:
    settings = Settings.model_validate({"tessera_demo": True, "tessera_var": tmp_path, "log_level": "ERROR"})
    app = create_app(settings)
    for rule in app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        protection = getattr(app.view_functions[rule.endpoint], "protection", None)
        assert protection is not None, f"{rule} declares no protection"
        assert protection.kind != "public" or len(protection.reason) > 5, f"{rule} is public without a reason"
    for path, route in app.extensions["tessera_edge"].routes.items():
        assert len(route.guard) > 5, f"{path} does not say what guards it"


@pytest.mark.parametrize("package", sorted({p.parent for p in FILES}), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_package_says_what_it_owns(package: Path) -> None:
    if package == ROOT / "policies" or package.parent in {ROOT, ROOT / "identity"}:
        text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert "Owns:" in text, package
        assert "Does not own:" in text, package
