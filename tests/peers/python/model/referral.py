"""The referral: its item in the table, the change of each step, and its JSON form."""

from datetime import datetime, timedelta

from .digest import hashed
from .input import text_of
from .settings import PROGRAM, TERMS

SIDES = ("referrer", "referee")


def referee(item: dict) -> str:
    return item["pk"].removeprefix("REFEREE#")


def referrer(item: dict) -> str:
    return item["referrer"].removeprefix("REFERRER#")


def created_at(item: dict) -> str:
    return item["referred_at"].split("#")[0]


def _shard(identifier: str) -> int:
    """The number of a referral's partition in the index `work`, which has ten."""
    value = 0
    for byte in identifier.encode():
        value = (value * 31 + byte) & 0xFFFFFFFF
    return value % 10


def attributed(referee_id: str, owned: dict, device: str | None, mark: int, now: str) -> dict:
    item = {
        "pk": f"REFEREE#{referee_id}",
        "sk": "REFERRAL",
        "referrer": f"REFERRER#{owned['owner']}",
        "referred_at": f"{now}#{referee_id}",
        "code": owned["code"],
        "program": PROGRAM,
        "terms": TERMS,
        "mark": mark,
        "rev": 1,
        "status": "pending",
    }
    return item | ({"device": device} if device else {})


class Unchanged(Exception):
    """The step changes nothing, for this reason."""


def converted(item: dict, order: dict, now: str) -> dict:
    """The attributes that an order changes."""
    if item.get("conversion", {}).get("order") == order["order"]:
        raise Unchanged("duplicate")
    if item["status"] != "pending":
        raise Unchanged("no_transition")
    terms = item["terms"]
    minimum = terms["minimum"]
    is_enough = order["currency"] == minimum["currency"] and order["amount"] >= minimum["amount"]
    if order["event"] != terms["qualifying_event"] or not is_enough:
        raise Unchanged("not_qualifying")
    due_at = datetime.fromisoformat(now) + timedelta(seconds=int(terms["hold_seconds"]))
    return {
        "status": "converted",
        "conversion": order | {"at": now},
        "work": f"due#{_shard(referee(item))}",
        "due_at": text_of(due_at),
    }


def issued(item: dict, facts: dict, now: str) -> dict:
    """The attributes that the end of the hold changes, given the accounts of both users. `None` removes an attribute."""
    if item["status"] != "converted" or item["due_at"] > now:
        raise Unchanged("not_due")
    reasons = [side for side in SIDES if facts.get(side, {}).get("flagged")]
    own = facts.get("referrers_own")
    reason = f"{reasons[0]}_flagged" if reasons else None
    if reason is None and own and referrer(own) == referee(item):
        reason = "reciprocal_referral"
    if reason:
        return {"status": "voided", "voided": {"at": now, "reason": reason}, "work": None, "due_at": None}
    benefits = {side: item["terms"][side] for side in SIDES}
    return {"status": "rewarded", "rewards": {"issued_at": now} | benefits}


def _status(reward: dict) -> str:
    if "delivered_at" in reward:
        return "delivered"
    return "failed" if "failed_at" in reward else "issued"


def answered(item: dict, side: str, facts: dict) -> dict:
    """The attributes that a subsystem's answer changes."""
    rewards = item.get("rewards")
    if not rewards or _status(rewards[side]) != "issued":
        raise Unchanged("already_marked")
    rewards = rewards | {side: rewards[side] | facts}
    if any(_status(rewards[each]) == "issued" for each in SIDES):
        return {"rewards": rewards}
    failed = [rewards[each]["failed_at"] for each in SIDES if _status(rewards[each]) == "failed"]
    if failed:
        return {"rewards": rewards, "work": f"parked#{_shard(referee(item))}", "due_at": max(failed)}
    return {"rewards": rewards, "work": None, "due_at": None}


def reward_view(item: dict, side: str) -> dict:
    reward = item["rewards"][side]
    return {
        "reward_id": f"{referee(item)}:{side}",
        "side": side,
        "user_id": referrer(item) if side == "referrer" else referee(item),
        "type": reward["type"],
        "amount": int(reward["amount"]),
        "currency": reward.get("currency"),
        "status": _status(reward),
        "issued_at": item["rewards"]["issued_at"],
        "delivered_at": reward.get("delivered_at"),
    }


def view(item: dict) -> dict:
    conversion, voided, rewards = (item.get(name, {}) for name in ("conversion", "voided", "rewards"))
    return {
        "referee_id": referee(item),
        "referrer_id": referrer(item),
        "code": item["code"],
        "program": item["program"],
        "status": item["status"],
        "created_at": created_at(item),
        "conversion_event": conversion.get("event"),
        "order_id": conversion.get("order"),
        "converted_at": conversion.get("at"),
        "rewarded_at": rewards.get("issued_at"),
        "voided_at": voided.get("at"),
        "void_reason": voided.get("reason"),
        "rewards": [reward_view(item, side) for side in SIDES] if rewards else [],
    }


_HAPPENED = {
    "pending": ("referral.attributed", created_at),
    "converted": ("referral.converted", lambda item: item["conversion"]["at"]),
    "rewarded": ("referral.rewarded", lambda item: item["rewards"]["issued_at"]),
    "voided": ("referral.voided", lambda item: item["voided"]["at"]),
}


def announcements(before: dict | None, after: dict) -> list[tuple[str, dict]]:
    """The events to publish when a referral changes from `before` (None for a new one) to `after`: types and details."""
    correlation_id, events = hashed(referee(after)), []

    def announce(kind: str, subject: str, at: str, about: dict) -> None:
        event_id = f"{subject}:{kind.split('.')[1]}"
        events.append((kind, {"event_id": event_id, "occurred_at": at, "correlation_id": correlation_id} | about))

    before = before or {}
    if before.get("status") != after["status"]:
        kind, at = _HAPPENED[after["status"]]
        announce(kind, referee(after), at(after), view(after))
    for side in SIDES if "rewards" in after else ():
        was, now = before.get("rewards", {}).get(side), after["rewards"][side]
        about = {"referee_id": referee(after)} | reward_view(after, side)
        if was is None:
            announce("reward.issued", about["reward_id"], after["rewards"]["issued_at"], about)
        for kind, fact in (("reward.delivered", "delivered_at"), ("reward.failed", "failed_at")):
            if fact in now and fact not in (was or {}):
                announce(kind, about["reward_id"], now[fact], about)
    return events
