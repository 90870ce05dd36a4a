"""The expense application: submit, approve, review and pay claims.

It signs people in with OpenID Connect (code flow, PKCE, nonce) through Authlib, and it contains not one role check: the
decision point is asked with the claim's amount, company and department: `ask` to draw a button, `perform` to press it.
After the finance review it posts the voucher to the ERP's API in the reviewer's name, with his access token.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from flask import Flask, abort, redirect, render_template, request, session, url_for
from joserfc.errors import JoseError
from werkzeug.wrappers import Response

from examples.expense.logout import LogoutTokens
from examples.shared.config import Config, from_env
from examples.shared.pdp import Pdp, Question
from examples.shared.store import Document, Stale, Store
from examples.shared.web import arrive, create, open_to_servers, serve, show, signed_in, t

TITLE = ("费控报销", "Expenses")
ERP_API = "https://erp.xinghe.example/api"  # the API's name (the tokens' audience), not its address
SCOPES = "openid profile email org roles erp.vouchers"
# What comes next for a claim in each state: (action, state afterwards, Chinese, English).
STEPS = {
    "submitted": ("approve", "approved", "审批通过", "Approve"),
    "approved": ("review", "reviewed", "财务复核", "Review"),
    "reviewed": ("pay", "paid", "付款", "Pay"),
}
STATES = {
    "submitted": ("待审批", "Submitted"),
    "approved": ("待复核", "Approved"),
    "reviewed": ("待付款", "Reviewed"),
    "paid": ("已付款", "Paid"),
}
ACTORS = {"submit": "submitter", "approve": "approver", "review": "reviewer", "pay": "payer"}


def create_app(config: Config, erp_url: str) -> Flask:
    """The application; `erp_url` is where the ERP's API is served."""
    app, sessions = create(__name__, config, TITLE)
    store = Store(config.data / "expense.db")
    pdp = Pdp(config.tessera_url, config.code, config.pdp_secret)
    logout_tokens = LogoutTokens(config.tessera_url, config.client_id)
    oauth = OAuth(app)
    tessera = oauth.register(
        "tessera",
        client_id=config.client_id,
        client_secret=config.client_secret,
        server_metadata_url=f"{config.tessera_url}/.well-known/openid-configuration",
        client_kwargs={"scope": SCOPES, "code_challenge_method": "S256"},
        update_token=keep_token,
    )

    @app.get("/login")
    def login() -> Response:
        answer: Response = tessera.authorize_redirect(f"{config.base_url}/callback", resource=ERP_API)
        return answer

    @app.get("/callback")
    def callback() -> Response | tuple[str, int]:
        if request.args.get("iss", config.tessera_url) != config.tessera_url:  # RFC 9207 §2.4
            return refused(t("应答来自另一个签发者。", "The answer came from another issuer."))
        try:
            token = tessera.authorize_access_token()
        except (OAuthError, JoseError) as error:
            return refused(str(error.description or error.error))
        claims = token["userinfo"]  # the verified ID token: signature, iss, aud, exp, nonce
        session["id_token"] = token["id_token"]
        keep_token(token)
        return arrive(
            {
                "sub": claims["sub"],
                "sid": claims.get("sid", ""),
                "name": claims.get("name", claims["sub"]),
                "roles": claims.get("roles", []),
                "company": claims.get("company_code", ""),
                "unit": claims.get("dept_code", ""),
            }
        )

    @app.post("/logout")
    def logout() -> Response:
        """RP-initiated logout: end our session, then the server's, which tells every other application."""
        hint = session.get("id_token")
        session.clear()
        answer: Response = tessera.logout_redirect(
            post_logout_redirect_uri=f"{config.base_url}/signed-out", id_token_hint=hint, client_id=config.client_id
        )
        return answer

    @app.post("/backchannel-logout")
    @open_to_servers
    def backchannel_logout() -> tuple[str, int]:
        """The server says that a session is over (OpenID Connect Back-Channel Logout 1.0 §2.5)."""
        claims = logout_tokens.read(request.form.get("logout_token", ""))
        if claims is None:
            return "invalid logout token", 400
        sid, sub = claims.get("sid"), claims.get("sub")
        sessions.end(lambda kept: _is_of(kept.get("user", {}), sid, sub))
        return "", 200

    @app.get("/")
    def home() -> str:
        user = signed_in()
        claims = store.latest("claim")
        answers = pdp.ask_all(user["sub"], [question(one, "read") for one in claims], sid=user["sid"])
        visible = [one for one, answer in zip(claims, answers, strict=True) if answer.permit]
        return render_template(
            "claims.html",
            user=user,
            claims=visible,
            states=STATES,
            hidden=sum(answer.available for answer in answers) - len(visible),
            unavailable=any(not answer.available for answer in answers),
        )

    @app.post("/claims")
    def submit() -> Response:
        user = signed_in()
        claim = new_claim(user)
        answer = pdp.perform(user["sub"], question(claim, "submit"), sid=user["sid"])
        show(answer)
        if answer.permit:
            body = {name: value for name, value in claim.items() if name not in {"id", "type", "status"}}
            store.add("claim", claim["id"], "submitted", body)
        return redirect(url_for("home"))

    @app.get("/claims/<claim_id>")
    def detail(claim_id: str) -> str | tuple[str, int]:
        user, claim = signed_in(), load(claim_id)
        step = STEPS.get(claim["status"])
        asked = [question(claim, "read")] + ([question(claim, step[0])] if step else [])
        read, *next_step = pdp.ask_all(user["sub"], asked, sid=user["sid"])
        if not read.permit:
            return refused(t(read.zh, read.en))
        return render_template(
            "claim.html",
            user=user,
            claim=claim,
            states=STATES,
            step=step,
            answer=next_step[0] if step else None,
        )

    @app.post("/claims/<claim_id>/<action>")
    def act(claim_id: str, action: str) -> Response:
        user, claim = signed_in(), load(claim_id)
        step = STEPS.get(claim["status"])
        if step is None or step[0] != action:
            abort(409, "The claim has moved on; load the page again.")
        answer = pdp.perform(user["sub"], question(claim, action), sid=user["sid"])
        show(answer)
        if answer.permit:
            try:
                store.change(claim, step[1], **{ACTORS[action]: user["sub"], f"{ACTORS[action]}_name": user["name"]})
            except Stale:
                abort(409, "The claim has moved on; load the page again.")
            if action == "review":
                session["note"] = post_voucher(load(claim_id))
        return redirect(url_for("detail", claim_id=claim_id))

    @app.post("/claims/<claim_id>/voucher")
    def voucher(claim_id: str) -> Response:
        """Try the voucher again when the ERP had not made one."""
        user, claim = signed_in(), load(claim_id)
        if claim.get("reviewer") != user["sub"] or claim.get("voucher"):
            abort(409, "There is no voucher to post.")
        session["note"] = post_voucher(claim)
        return redirect(url_for("detail", claim_id=claim_id))

    def post_voucher(claim: Document) -> str:
        """Book the claim in the ERP in the reviewer's name; what came of it, for the page."""
        body = {
            "claim": claim["id"],
            "company": claim["company"],
            "amount": claim["amount"],
            "text": claim["text"],
        }
        try:
            response = tessera.post(f"{erp_url}/api/vouchers", token=session.get("token"), json=body, timeout=5)
            answer = response.json()
        except (OAuthError, requests.RequestException, ValueError):
            return t("ERP 没有应答,凭证未生成。", "The ERP did not answer; no voucher was made.")
        if response.status_code != 201:
            reason = answer.get("error_description", answer.get("error", ""))
            return t(f"ERP 拒绝了凭证: {reason}", f"The ERP refused the voucher: {reason}")
        store.change(claim, claim["status"], voucher=answer["id"])
        return t(f"ERP 凭证 {answer['id']} 已生成。", f"The ERP made voucher {answer['id']}.")

    def load(claim_id: str) -> Document:
        return store.find("claim", claim_id) or abort(404)

    return app


def keep_token(token: dict[str, Any], refresh_token: str | None = None, access_token: str | None = None) -> None:
    """Keep the tokens in the session, on this server; also called when Authlib has refreshed them."""
    old = session.get("token", {})
    kept = {
        name: token[name] for name in ("access_token", "refresh_token", "expires_at", "token_type") if name in token
    }
    session["token"] = {**old, **kept}


def question(claim: Document, action: str) -> Question:
    """The question about a claim, with everything that scope, limit and duty rules read."""
    names = ("company", "org_unit", "business_type", "amount", *ACTORS.values())
    return Question(action, "claim", claim["id"], {name: claim[name] for name in names if claim.get(name)})


def new_claim(user: dict[str, Any]) -> Document:
    """The claim that the form describes; ends the request with 400 for what cannot be one."""
    text, value = request.form.get("text", "").strip()[:200], request.form.get("amount", "").strip()
    currency, company = request.form.get("currency", ""), request.form.get("company", "")
    if not text or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,2})?", value) or Decimal(value) <= 0:
        abort(400, "A claim needs a text and an amount such as 120.50.")
    if currency not in {"CNY", "USD"} or company not in {"XH01", "XH02"}:
        abort(400, "Unknown currency or company.")
    return {
        "id": Store.new_id("BX"),
        "type": "claim",
        "status": "",
        "text": text,
        "amount": {"value": value, "currency": currency},
        "company": company,
        "org_unit": user["unit"],
        "business_type": "travel",
        "submitter": user["sub"],
        "submitter_name": user["name"],
    }


def refused(text: str) -> tuple[str, int]:
    """The page for whoever may not do this."""
    page = render_template("message.html", user=session.get("user"), heading=t("无法访问", "Not possible"), text=text)
    return page, 403


def _is_of(user: dict[str, Any], sid: str | None, sub: str | None) -> bool:
    """Whether a logout token with this sid (or, without one, this sub) means this user's session."""
    return bool(user) and (user.get("sid") == sid if sid else user.get("sub") == sub)


def main(erp_url: str) -> None:
    """Run it."""
    config = from_env("expense", 8001, needs_client=True)
    serve(create_app(config, erp_url), config)
