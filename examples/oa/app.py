"""The office application: approvals for seals, payments and purchases, behind SAML 2.0.

It knows people by their persistent NameID, which is also the id under which it asks the decision point about them.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Flask, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from examples.oa.saml import SamlRefused, ServiceProvider, SignedIn
from examples.shared.config import Config
from examples.shared.pdp import Pdp, Question
from examples.shared.store import Document, Stale, Store
from examples.shared.web import arrive, create, open_to_servers, show, signed_in, t

TITLE = ("协同办公", "Office")
KINDS = {"seal": ("用章申请", "Use of seal"), "payment": ("付款申请", "Payment"), "purchase": ("采购申请", "Purchase")}
STATES = {"submitted": ("待审批", "Submitted"), "approved": ("已批准", "Approved")}
PENDING_MAX = 10


def create_app(config: Config) -> Flask:
    """The application."""
    app, _ = create(__name__, config, TITLE)
    store = Store(config.data / "oa.db")
    pdp = Pdp(config.tessera_url, config.code, config.pdp_secret)
    provider = ServiceProvider(config)

    @app.get("/saml/metadata")
    def metadata() -> tuple[str, int, dict[str, str]]:
        return provider.metadata(), 200, {"Content-Type": "application/samlmetadata+xml"}

    @app.get("/login")
    def login() -> Response:
        address, request_id = provider.start(environ(config), f"{config.base_url}/")
        session["pending"] = [*session.get("pending", []), request_id][-PENDING_MAX:]
        return redirect(address)

    @app.post("/saml/acs")
    @open_to_servers
    def acs() -> Response | tuple[str, int]:
        # This POST comes from the identity provider's page. Here both are on localhost, which is one site; elsewhere
        # the session cookie must be SameSite=None and Secure, or the pending requests are not found.
        pending = session.get("pending", [])
        try:
            found, answered = provider.finish(environ(config), pending)
        except SamlRefused as error:
            app.logger.warning("SAML response refused: %s", error)
            return refused(t("登录应答无效,请重新登录。", "The sign-in was not valid; please try again."))
        session["pending"] = [one for one in pending if one != answered]
        return arrive(user_of(found))

    @app.post("/logout")
    def logout() -> Response:
        """End our session, then go and end the server's."""
        session.clear()
        return redirect(f"{config.tessera_url}/logout")

    @app.get("/")
    def home() -> str:
        user = current()
        approvals = store.latest("approval")
        reads = pdp.ask_all(user["name_id"], [question(one, "read") for one in approvals])
        visible = [one for one, answer in zip(approvals, reads, strict=True) if answer.permit]
        approves = pdp.ask_all(user["name_id"], [question(one, "approve") for one in visible])
        return render_template(
            "approvals.html",
            user=user,
            rows=list(zip(visible, approves, strict=True)),
            states=STATES,
            kinds=KINDS,
            unavailable=any(not answer.available for answer in reads),
        )

    @app.post("/approvals")
    def submit() -> Response:
        user = current()
        approval = new_approval(user)
        answer = pdp.perform(user["name_id"], question(approval, "submit"))
        show(answer)
        if answer.permit:
            body = {name: value for name, value in approval.items() if name not in {"id", "type", "status"}}
            store.add("approval", approval["id"], "submitted", body)
        return redirect(url_for("home"))

    @app.post("/approvals/<approval_id>/approve")
    def approve(approval_id: str) -> Response:
        user = current()
        approval = store.find("approval", approval_id) or abort(404)
        if approval["status"] != "submitted":
            abort(409, "The approval has moved on; load the page again.")
        answer = pdp.perform(user["name_id"], question(approval, "approve"))
        show(answer)
        if answer.permit:
            try:
                store.change(approval, "approved", approver=user["name_id"], approver_name=user["name"])
            except Stale:
                abort(409, "The approval has moved on; load the page again.")
        return redirect(url_for("home"))

    return app


def environ(config: Config) -> dict[str, Any]:
    """The request as python3-saml takes it; host and scheme are our configured ones, never the Host header's."""
    scheme, _, host = config.base_url.partition("://")
    return {
        "https": "on" if scheme == "https" else "off",
        "http_host": host,
        "script_name": request.path,
        "get_data": request.args.to_dict(),
        "post_data": request.form.to_dict(),
    }


def user_of(found: SignedIn) -> dict[str, Any]:
    """The session's user from an assertion."""

    def first(name: str) -> str:
        return (found.attributes.get(name) or [""])[0]

    return {
        "name_id": found.name_id,
        "login": first("preferred_username"),
        "name": first("name") or first("preferred_username"),
        "roles": list(found.attributes.get("roles", [])),
        "company": first("company_code"),
        "unit": first("dept_code"),
        "ends_at": found.ends_at,
    }


def current() -> dict[str, Any]:
    """Who is signed in, until the time that the assertion gave the session."""
    user = signed_in()
    if user["ends_at"] and time.time() >= user["ends_at"]:
        session.clear()
    return signed_in()


def question(approval: Document, action: str) -> Question:
    """The question about an approval, with what scope and duty rules read."""
    names = ("company", "org_unit", "business_type", "amount", "applicant", "submitter", "approver")
    return Question(action, "approval", approval["id"], {name: approval[name] for name in names if approval.get(name)})


def new_approval(user: dict[str, Any]) -> Document:
    """The approval that the form describes; ends the request with 400 for what cannot be one."""
    text, kind = request.form.get("text", "").strip()[:200], request.form.get("kind", "")
    if not text or kind not in KINDS:
        abort(400, "An approval needs a text and a kind.")
    return {
        "id": Store.new_id("OA"),
        "type": "approval",
        "status": "",
        "text": text,
        "business_type": kind,
        "company": user["company"],
        "org_unit": user["unit"],
        "applicant": user["login"],
        "submitter": user["name_id"],
        "submitter_name": user["name"],
    }


def refused(text: str) -> tuple[str, int]:
    """The page for whoever may not do this."""
    return render_template("message.html", user=None, heading=t("无法访问", "Not possible"), text=text), 403
