"""Mint and attribute: a member gets a code, and a sign-up with it becomes a referral."""

import secrets
from http import HTTPStatus

from . import input, store
from .code import canonical, drawn
from .digest import device
from .problem import Problem
from .referral import attributed, referrer, view
from .settings import PROGRAM, PUBLIC_URL

# Codes in memory. The owner of a code never changes, so it is read once. Everything else is read each time.
_known: dict[str, dict] = {}
_MOST_KNOWN = 10_000


def _code_view(owned: dict) -> dict:
    return {
        "code": owned["code"],
        "user_id": owned["owner"],
        "program": owned["program"],
        "link": f"{PUBLIC_URL}/r/{owned['code']}",
        "created_at": owned["created_at"],
        "expires_at": owned.get("expires_at"),
    }


def mint(user_id: str, body: dict) -> tuple[int, dict]:
    """Returns the status and the code."""
    user = input.identifier("user_id", user_id)
    wanted, fingerprint = input.code(body.get("code")), input.fingerprint(body.get("device_fingerprint"))
    now, expires_at = input.now(), input.time("expires_at", body.get("expires_at"))
    if expires_at and expires_at <= now:
        raise input.invalid("expires_at: is in the past")
    if (body.get("program") or PROGRAM) != PROGRAM:
        raise Problem(HTTPStatus.NOT_FOUND, "program_not_found", "there is no such program here")
    for code in [wanted] if wanted else [drawn() for _ in range(3)]:
        owned = {"code": code, "owner": user, "program": PROGRAM, "created_at": now}
        if expires_at:
            owned["expires_at"] = expires_at
        outcome, found = store.mint(owned, device(fingerprint))
        if found:
            return (201 if outcome == "minted" else 200), _code_view(found)
    if wanted:
        raise Problem(HTTPStatus.CONFLICT, "code_taken", "this code belongs to another user")
    raise RuntimeError("no drawn code was free")


def attribute(body: dict) -> tuple[int, dict]:
    """Returns the status and the referral."""
    referee_id = input.identifier("referee_id", body.get("referee_id"))
    code, fingerprint = input.code(body.get("code")), input.fingerprint(body.get("device_fingerprint"))
    if not code:
        raise input.invalid("no code")
    now = input.now()
    signed_up_at = min(input.time("signed_up_at", body.get("signed_up_at")) or now, now)
    owned, account, referrers_own, existing = _facts(code, referee_id)
    its = device(fingerprint)
    if existing:
        return _again(existing, code)
    _refuse(owned, referee_id, signed_up_at, its, account or {}, referrers_own or {})
    referral = attributed(referee_id, owned, its, secrets.randbelow(2**32), now)
    existing = store.attribute(referral)
    return _again(existing, code) if existing else (201, view(referral))


def _facts(code: str, referee_id: str) -> list:
    owned = _known.get(canonical(code)) or store.code(code)
    if not owned:
        raise Problem(HTTPStatus.NOT_FOUND, "code_not_found", "this code does not exist")
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[canonical(code)] = owned
    facts = store.attribution_facts(owned, referee_id)
    if not facts[0]:
        raise Problem(HTTPStatus.NOT_FOUND, "code_not_found", "this code does not exist")
    if facts[0]["program"] != PROGRAM:
        raise Problem(HTTPStatus.NOT_FOUND, "program_not_found", "there is no such program here")
    return facts


def _again(existing: dict, code: str) -> tuple[int, dict]:
    if canonical(existing["code"]) == canonical(code):
        return 200, view(existing)
    raise Problem(HTTPStatus.CONFLICT, "already_referred", "this user was already referred with another code")


def _refuse(owned: dict, referee_id: str, signed_up_at: str, its: str | None, account: dict, referrers_own: dict) -> None:
    if "expires_at" in owned and owned["expires_at"] <= signed_up_at:
        raise Problem(HTTPStatus.GONE, "code_expired", "the code had expired")
    unprocessable = HTTPStatus.UNPROCESSABLE_ENTITY
    if owned["owner"] == referee_id:
        raise Problem(unprocessable, "self_referral", "a user cannot refer themselves")
    if account.get("flagged"):
        raise Problem(unprocessable, "referrer_flagged", "the referrer's account is flagged")
    if its and (its in account.get("devices", ()) or its == referrers_own.get("device")):
        raise Problem(unprocessable, "device_match", "the device is one of the referrer's")
    if referrers_own and referrer(referrers_own) == referee_id:
        raise Problem(unprocessable, "reciprocal_referral", "the referrer was referred by this user")
