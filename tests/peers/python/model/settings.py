"""The functions' settings, read once when a function starts."""

import os

env = os.environ


def _money(side: str) -> dict:
    kind, amount = env.get(f"{side}_REWARD_TYPE", "credit"), int(env.get(f"{side}_REWARD_AMOUNT", "1000"))
    return {"type": kind, "amount": amount} | ({} if kind == "points" else {"currency": env.get("CURRENCY", "USD")})


TABLE_NAME = env["TABLE_NAME"]
IDEMPOTENCY_TABLE_NAME = env["IDEMPOTENCY_TABLE_NAME"]
BUS_NAME = env.get("BUS_NAME", "")
FINGERPRINT_KEY = env.get("FINGERPRINT_KEY", "").encode()
PUBLIC_URL = env.get("PUBLIC_URL", "http://127.0.0.1:9000").rstrip("/")
WEBHOOK_SECRETS = env.get("WEBHOOK_SECRET", "").split()
ENDPOINTS = {kind: env.get(f"{kind.upper()}_ENDPOINT") for kind in ("credit", "coupon", "points")}
PROGRAM = "default"

# The terms of new referrals.
TERMS = {
    "qualifying_event": env.get("QUALIFYING_EVENT", "order.completed"),
    "minimum": {"amount": int(env.get("MINIMUM_AMOUNT", "0")), "currency": env.get("CURRENCY", "USD")},
    "hold_seconds": int(env.get("HOLD_SECONDS", "0")),
    "referrer": _money("REFERRER"),
    "referee": _money("REFEREE"),
}
