"""The list of attack cases that the suite covers, `docs/attack-cases.md`, made from the tests themselves.

A test names its cases by `@pytest.mark.case("OA-01", …)` or in its own name (`test_oa_01_…`). `python -m tests.cases`
writes the list anew; `tests/unit/test_attack_cases.py` compares.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "docs" / "attack-cases.md"

ID = re.compile(r"[A-Z]{2}-\d{2}")
NAME = re.compile(r"test_([a-z]{2})_(\d{2})_(?:to_\d{2}_)?(.+)")
SECTIONS = {
    "ST": "A state and a path",
    "OA": "Authorization endpoint",
    "RU": "Redirect URIs",
    "RL": "Where to go next",
    "PK": "PKCE",
    "TK": "Codes and tokens",
    "RT": "Refresh tokens",
    "CL": "Client authentication",
    "IN": "Introspection",
    "RV": "Revocation",
    "PA": "Pushed requests",
    "JA": "Request objects",
    "DP": "DPoP",
    "DV": "Devices",
    "TX": "Token exchange",
    "DR": "Client registration",
    "OI": "OpenID Connect",
    "LO": "Logout",
    "JW": "JSON Web Tokens",
    "SA": "SAML 2.0",
    "CA": "CAS",
    "SC": "SCIM",
    "LD": "LDAP",
    "SY": "Directory sync",
    "ID": "Who is who",
    "AZ": "Policy decisions",
    "SF": "Shared signals",
    "WH": "Messages to others",
    "SE": "Sessions",
    "CS": "Requests from other sites",
    "BF": "Guessing",
    "EN": "Who has an account",
    "TI": "Time that tells",
    "MF": "Second factors",
    "PW": "Passwords",
    "FL": "Steps of a sign-in",
    "PR": "Recovery",
    "PE": "Climbing in rights",
    "CO": "Console",
    "AU": "Audit",
    "LG": "What is written down",
    "HD": "Headers and proxies",
    "FA": "Forward authentication",
    "DO": "Exhaustion",
    "KY": "Keys",
    "ER": "Error pages",
    "FZ": "Random input",
    "SQ": "SQL",
    "QA": "The suite itself",
    "DF": "Defaults",
    "RF": "Faults around us",
}
HEAD = """# Attack cases

Attacks that the suite carries out, by case id, with the test that does. Written by `python -m tests.cases`; a test
compares this list with the tests, so what is not here is not covered.
"""


def named_cases(node: ast.FunctionDef) -> tuple[list[str], str]:
    """The cases of one test, and its name as a sentence."""
    ids = [
        argument.value
        for decorator in node.decorator_list
        for call in ast.walk(decorator)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "case"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    found = NAME.fullmatch(node.name)
    if found:
        ids.append(f"{found[1].upper()}-{found[2]}")
    sentence = found[3] if found else node.name.removeprefix("test_")
    return list(dict.fromkeys(ids)), sentence.replace("_", " ")


def lines() -> Iterator[tuple[str, str, str]]:
    """(id, sentence, file) of every case that a test names; raises `ValueError` for an id of no known form."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            ids, sentence = named_cases(node)
            for one in ids:
                if not ID.fullmatch(one) or one[:2] not in SECTIONS:
                    raise ValueError(f"{path.name}: {node.name} names the case {one!r}")
                yield one, sentence, str(path.relative_to(ROOT))


def text() -> str:
    """The whole list."""
    found = sorted(set(lines()))
    parts = [HEAD]
    for prefix, title in SECTIONS.items():
        rows = [f"- {one}: {sentence} (`{file}`)" for one, sentence, file in found if one[:2] == prefix]
        if rows:
            parts.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    LIST.write_text(text(), encoding="utf-8")
