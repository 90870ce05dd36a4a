"""The ERP: vouchers, purchase orders and vendors. Its pages sign people in by CAS, its API takes access tokens.

Both ask the same decision point about the same person: the pages with the `sub` attribute of the CAS ticket, the API
with the token's `sub`.
"""

from __future__ import annotations

import re
from typing import Any

from flask import Flask, Response, abort, jsonify, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as BaseResponse

from examples.erp.bearer import AccessTokens, BearerError, Caller
from examples.erp.cas import CasClient, logged_out_ticket
from examples.shared.config import Config
from examples.shared.pdp import Pdp, Question
from examples.shared.store import Document, Stale, Store
from examples.shared.web import arrive, create, open_to_servers, show, signed_in, t

TITLE = ("企业资源计划", "ERP")
API = "https://erp.xinghe.example/api"  # the tokens' audience
SCOPE = "erp.vouchers"
AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?")
STATES = {"created": ("待审批", "Created"), "approved": ("已批准", "Approved"), "posted": ("已记账", "Posted")}
VENDORS = (
    ("V-1001", {"name": "苏州精工轴承有限公司", "company": "XH02", "account": "6222 0000 0000 1001"}),
    ("V-1002", {"name": "东莞华强电子有限公司", "company": "XH02", "account": "6222 0000 0000 1002"}),
)


def create_app(config: Config) -> Flask:
    """The application."""
    app, sessions = create(__name__, config, TITLE)
    store = Store(config.data / "erp.db")
    for vendor_id, vendor in VENDORS:
        if store.find("vendor", vendor_id) is None:
            store.add("vendor", vendor_id, "active", vendor)
    pdp = Pdp(config.tessera_url, config.code, config.pdp_secret)
    cas = CasClient(f"{config.tessera_url}/cas", f"{config.base_url}/login")
    _pages(app, store, pdp, cas, config)
    _api(app, store, pdp, AccessTokens(config.tessera_url, API))

    @app.post("/login")
    @open_to_servers
    def single_logout() -> tuple[str, int]:
        """The CAS server says that the session of a ticket is over."""
        ticket = logged_out_ticket(request.form.get("logoutRequest", ""))
        ended = sessions.end(lambda kept: kept.get("ticket") == ticket) if ticket else 0
        return ("", 200) if ended else ("no such session", 200)

    return app


def _pages(app: Flask, store: Store, pdp: Pdp, cas: CasClient, config: Config) -> None:
    """What people see."""

    @app.get("/login")
    def login() -> BaseResponse | tuple[str, int]:
        ticket = request.args.get("ticket")
        if ticket is None:
            return redirect(cas.login_address)
        principal = cas.validate(ticket)
        if principal is None or not principal.first("sub"):
            text = t("登录票据无效,请重新登录。", "The ticket was not valid; please try again.")
            return render_template("message.html", heading=t("无法访问", "Not possible"), text=text), 403
        session["ticket"] = ticket
        return arrive(
            {
                "sub": principal.first("sub"),
                "name": principal.first("name") or principal.user,
                "roles": principal.all("roles"),
                "company": principal.first("company_code"),
                "unit": principal.first("dept_code"),
            }
        )

    @app.post("/logout")
    def logout() -> BaseResponse:
        session.clear()
        return redirect(cas.logout_address(f"{config.base_url}/signed-out"))

    @app.get("/")
    def home() -> str:
        user = signed_in()
        kinds = ("purchase_order", "voucher", "vendor")
        documents = [one for kind in kinds for one in store.latest(kind)]
        reads = pdp.ask_all(user["sub"], [question(one, "read") for one in documents])
        visible = [one for one, answer in zip(documents, reads, strict=True) if answer.permit]
        orders = [one for one in visible if one["status"] == "created"]
        approves = pdp.ask_all(user["sub"], [question(one, "approve") for one in orders])
        return render_template(
            "home.html",
            user=user,
            approvals={one["id"]: answer for one, answer in zip(orders, approves, strict=True)},
            shown={kind: [one for one in visible if one["type"] == kind] for kind in kinds},
            states=STATES,
            unavailable=any(not answer.available for answer in reads),
        )

    @app.post("/orders")
    def create_order() -> BaseResponse:
        user = signed_in()
        text, value = request.form.get("text", "").strip()[:200], request.form.get("amount", "").strip()
        if not text or not AMOUNT.fullmatch(value):
            abort(400, "An order needs a text and an amount such as 120.50.")
        order = {
            "id": Store.new_id("PO"),
            "type": "purchase_order",
            "status": "",
            "text": text,
            "amount": {"value": value, "currency": "CNY"},
            "company": user["company"],
            "org_unit": user["unit"],
            "creator_name": user["name"],
        }
        answer = pdp.perform(user["sub"], question(order, "create"))
        show(answer)
        if answer.permit:
            body = {name: one for name, one in order.items() if name not in {"id", "type", "status"}}
            store.add("purchase_order", order["id"], "created", body)
        return redirect(url_for("home"))

    @app.post("/orders/<order_id>/approve")
    def approve_order(order_id: str) -> BaseResponse:
        user = signed_in()
        order = store.find("purchase_order", order_id) or abort(404)
        if order["status"] != "created":
            abort(409, "The order has moved on; load the page again.")
        answer = pdp.perform(user["sub"], question(order, "approve"))
        show(answer)
        if answer.permit:
            move_on(store, order, "approved", approver_name=user["name"])
        return redirect(url_for("home"))

    @app.post("/vendors/<vendor_id>")
    def edit_vendor(vendor_id: str) -> BaseResponse:
        user = signed_in()
        vendor = store.find("vendor", vendor_id) or abort(404)
        account = request.form.get("account", "").strip()
        if not re.fullmatch(r"[0-9 ]{8,30}", account):
            abort(400, "A bank account is 8 to 30 digits.")
        answer = pdp.perform(user["sub"], question(vendor, "edit"))
        show(answer)
        if answer.permit:
            move_on(store, vendor, vendor["status"], account=account)
        return redirect(url_for("home"))


def _api(app: Flask, store: Store, pdp: Pdp, tokens: AccessTokens) -> None:
    """What programs call, with an access token: JSON in, JSON out."""

    @app.errorhandler(BearerError)
    def bearer_error(error: BearerError) -> Response:
        challenge = f'Bearer error="{error.code}", error_description="{error.description}"' if error.code else "Bearer"
        answer = jsonify({"error": error.code or "unauthorized", "error_description": error.description})
        answer.status_code = error.status
        answer.headers["WWW-Authenticate"] = challenge
        return answer

    def caller() -> Caller:
        return tokens.check(request.headers.get("Authorization", ""), SCOPE)

    @app.get("/api/vouchers")
    def list_vouchers() -> Response:
        sub = caller().sub
        vouchers = store.latest("voucher")
        answers = pdp.ask_all(sub, [question(one, "read") for one in vouchers])
        if not all(answer.available for answer in answers):
            return failure(503, "temporarily_unavailable", "The decision point does not answer.")
        return jsonify([one for one, answer in zip(vouchers, answers, strict=True) if answer.permit])

    @app.post("/api/vouchers")
    @open_to_servers
    def post_voucher() -> Response:
        who = caller()
        voucher = new_voucher(request.get_json(silent=True))
        if voucher is None:
            return failure(400, "invalid_request", "A voucher has claim, company, text, and amount {value, currency}.")
        if any(one["claim"] == voucher["claim"] for one in store.latest("voucher", 1_000)):
            return failure(409, "conflict", "This claim has a voucher already.")
        answer = pdp.perform(who.sub, question(voucher, "post"))
        if not answer.available:
            return failure(503, "temporarily_unavailable", answer.en)
        if not answer.permit:
            return failure(403, "access_denied", answer.en, reason=answer.reason)
        body = {name: one for name, one in voucher.items() if name not in {"id", "type", "status"}}
        store.add("voucher", voucher["id"], "posted", {**body, "client": who.client_id})
        saved = jsonify({"id": voucher["id"], "status": "posted"})
        saved.status_code = 201
        return saved


def failure(status: int, code: str, text: str, **more: str) -> Response:
    """A JSON error."""
    answer = jsonify({"error": code, "error_description": text, **more})
    answer.status_code = status
    return answer


def new_voucher(body: Any) -> Document | None:
    """The voucher that the body describes, or None."""
    amount = body.get("amount") if isinstance(body, dict) else None
    if not isinstance(amount, dict):
        return None
    value, currency = amount.get("value"), amount.get("currency")
    texts = [body.get(name) for name in ("claim", "company", "text")] + [value, currency]
    if not all(isinstance(one, str) and 0 < len(one) <= 200 for one in texts):
        return None
    if not AMOUNT.fullmatch(str(value)) or not re.fullmatch("[A-Z]{3}", str(currency)):
        return None
    return {
        "id": Store.new_id("PZ"),
        "type": "voucher",
        "status": "",
        "claim": body["claim"],
        "company": body["company"],
        "text": body["text"],
        "amount": {"value": value, "currency": currency},
    }


def move_on(store: Store, document: Document, status: str, **changes: Any) -> None:
    """Change the document; ends the request with 409 when somebody was first."""
    try:
        store.change(document, status, **changes)
    except Stale:
        abort(409, "Somebody else has changed this; load the page again.")


def question(document: Document, action: str) -> Question:
    """The question about a document, with what scope and limit rules read."""
    names = ("company", "org_unit", "amount")
    properties = {name: document[name] for name in names if document.get(name)}
    return Question(action, document["type"], document["id"], properties)
