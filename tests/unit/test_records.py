"""Whoever changes something leaves a record: read from the code, so that a new service cannot forget it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Steps of another service's act, which leaves the record for the whole.
STEPS = {
    "begin": "a login transaction says nothing that its outcome does not",
    "put_position": "put_employment",
    "rebuild_closure": "put_org_unit",
    "save_version": "publish",
    "see_accounts": "what a source was seen to say; what changed by it is recorded by its service",
    "queue": "update_profile",
    "forget_written": "delete_identities",
    "ensure_console_role": "bootstrap_administrator",
}


@dataclass(frozen=True)
class Module:
    """A file's functions, and where the names that it imports come from."""

    functions: dict[str, ast.FunctionDef]
    imported: dict[str, str]


def load(path: Path) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return Module({node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}, imported)


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): load(path)
    for path in sorted((ROOT / "identity").rglob("*.py"))
}


def reached(module: str, name: str, seen: set[tuple[str, str]] | None = None) -> list[ast.FunctionDef]:
    """The function and the functions of modules that it calls by name, however deep."""
    seen = set() if seen is None else seen
    if (module, name) in seen or name not in MODULES[module].functions:
        return []
    seen.add((module, name))
    node = MODULES[module].functions[name]
    found = [node]
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            called = call.func.id
            home = MODULES[module].imported.get(called, module)
            if home in MODULES:
                found += reached(home, called, seen)
    return found


def changes(node: ast.AST) -> bool:
    """Whether this code writes: a fact, a row added or deleted, a statement that inserts, updates or deletes."""
    only_read = {
        one.value for one in ast.walk(node) if isinstance(one, ast.Attribute) and one.attr in {"current", "all_current"}
    }
    for one in ast.walk(node):
        is_facts = isinstance(one, ast.Attribute) and one.attr == "facts" and getattr(one.value, "id", "") == "unit"
        if is_facts and one not in only_read:
            return True
        if isinstance(one, ast.Call):
            name = getattr(one.func, "id", getattr(one.func, "attr", ""))
            owner = getattr(getattr(one.func, "value", None), "attr", "")
            if (owner == "db" and name in {"add", "add_all", "delete", "merge"}) or (
                isinstance(one.func, ast.Name) and name in {"insert", "update", "delete"}
            ):
                return True
    return False


def records(node: ast.AST) -> bool:
    return any(
        isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == "record"
        for one in ast.walk(node)
    )


def mutating() -> list[tuple[str, str]]:
    found = []
    for module, content in MODULES.items():
        if not module.rpartition(".")[2].startswith("service"):
            continue
        for name, node in content.functions.items():
            first = node.args.args[0].arg if node.args.args else ""
            if not name.startswith("_") and first == "unit" and any(map(changes, reached(module, name))):
                found.append((module, name))
    return found


MUTATING = mutating()


@pytest.mark.parametrize(("module", "name"), MUTATING)
def test_au_04_a_service_that_changes_something_leaves_a_record(module: str, name: str) -> None:
    assert name in STEPS or any(map(records, reached(module, name))), f"{module}.{name} leaves no record"


def test_the_services_are_found() -> None:
    assert len(MUTATING) > 20
    assert set(STEPS) <= {name for _, name in MUTATING}
