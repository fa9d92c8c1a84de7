"""Sends every file in events/ through `sam local invoke`, and calls `sam local start-api`, against the local service.

The containers reach the service at the addresses in env.json, with the ports of this run instead of the usual ones.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

from support import Failed, Process, call, free_port, mortal, until

ATTRIBUTION, CONVERSION = "AttributionFunction", "ConversionFunction"
REWARDS, SWEEP, DELIVERY, ADMIN = "RewardsFunction", "SweepFunction", "DeliveryFunction", "AdminFunction"
ANALYTICS = "AnalyticsFunction"

# The answers of a function to an event, a batch and the schedule, if nothing failed.
DONE, BATCH, SWEPT = None, {"batchItemFailures": []}, {"failed": 0}

# The dead-letter queues if nothing failed.
EMPTY = [{"queue": name, "messages": 0, "last_redrive": None} for name in ("credit", "coupon", "points", "conversion")]

# A referral's life, as in tests/suite/events.rs: the file, the function, and the expected answer. For HTTP that is the status and
# fields of the body.
LIFE = [
    ("attribution-mint-vanity", ATTRIBUTION, (201, {"code": "ALICE-2026", "user_id": "alice"})),
    ("attribution-mint", ATTRIBUTION, (200, {"code": "ALICE-2026", "user_id": "alice"})),
    ("attribution-code-of-user", ATTRIBUTION, (200, {"code": "ALICE-2026"})),
    ("attribution-code", ATTRIBUTION, (200, {"user_id": "alice"})),
    ("attribution-land", ATTRIBUTION, (302, None)),
    ("attribution-land-head", ATTRIBUTION, (302, None)),
    ("attribution-land-slash", ATTRIBUTION, (302, None)),
    ("attribution-land-without-code", ATTRIBUTION, (302, None)),
    ("conversion-account-flagged", CONVERSION, DONE),
    ("conversion-account-cleared", CONVERSION, DONE),
    ("attribution-attribute-by-cookie", ATTRIBUTION, (201, {"referee_id": "bob", "status": "pending"})),
    ("attribution-attribute", ATTRIBUTION, (200, {"referee_id": "bob", "referrer_id": "alice"})),
    ("conversion-customer-signed-up", CONVERSION, DONE),
    ("attribution-referral", ATTRIBUTION, (200, {"referee_id": "bob", "code": "ALICE-2026"})),
    # An operator voids the referral by mistake, and reopens it.
    ("admin-void", ADMIN, (200, {"referee_id": "bob", "status": "voided", "void_reason": "operator"})),
    ("admin-reopen", ADMIN, (200, {"referee_id": "bob", "status": "pending", "void_reason": None})),
    ("conversion-order-completed", CONVERSION, DONE),
    ("conversion-delayed", CONVERSION, BATCH),
    ("conversion-dead-letter", CONVERSION, BATCH),
    ("conversion-incoming-queue", CONVERSION, BATCH),
    ("conversion-kafka-msk", CONVERSION, BATCH),
    ("conversion-kafka-self-managed", CONVERSION, BATCH),
    ("rewards-stream", REWARDS, BATCH),
    ("analytics-stream", ANALYTICS, BATCH),
    ("sweep-schedule", SWEEP, SWEPT),
    # The order has converted the referral, and nothing is unclear about it, so these change nothing.
    ("admin-convert", ADMIN, (200, {"status": "rewarded", "order_id": "order-1001", "conversion_event": "order.completed"})),
    ("admin-approve", ADMIN, (200, {"status": "rewarded", "attention": None})),
    ("admin-flag", ADMIN, (200, {"user_id": "mallory", "flagged": True, "reason": "A stolen card"})),
    ("admin-referrals", ADMIN, (200, {"items": [], "next_cursor": None})),
    ("admin-referral", ADMIN, (200, {"referee_id": "bob", "status": "rewarded", "due_at": None})),
    # Both rewards were refused. One is resent by its id, then all others, which is the second one. There are no dead letters.
    ("admin-undelivered", ADMIN, (200, {"next_cursor": None})),
    ("admin-resend", ADMIN, (202, {"reward_id": "bob:referee", "status": "issued", "failed_at": None})),
    ("admin-resend-all", ADMIN, (200, {"resent": 1, "next_cursor": None})),
    ("admin-dead-letters", ADMIN, (200, {"items": EMPTY})),
    ("admin-redrive", ADMIN, (202, {"queue": "credit", "messages": 0})),
    ("admin-daily", ADMIN, (200, {"from": "2026-03-01", "to": "2026-03-07"})),
    ("admin-referrers", ADMIN, (200, {"next_cursor": None})),
    ("admin-cohorts", ADMIN, (200, None)),
    ("admin-liability", ADMIN, (200, {"items": []})),
    ("admin-dashboard", ADMIN, (200, None)),
    ("admin-dashboard-file", ADMIN, (200, None)),
    ("delivery-queue", DELIVERY, BATCH),
    ("attribution-referrals-of-user", ATTRIBUTION, (200, {"next_cursor": None})),
    ("attribution-rewards-of-user", ATTRIBUTION, (200, {"next_cursor": None})),
    # After the issue, a cancellation takes both rewards back. Both reversals are refused, and resent like the rewards.
    ("conversion-order-cancelled", CONVERSION, DONE),
    ("admin-reversals", ADMIN, (200, {"next_cursor": None})),
    ("admin-resend-reversal", ADMIN, (202, {"reversal_id": "bob:referee:reversal", "status": "issued", "failed_at": None})),
    ("admin-resend-all-reversals", ADMIN, (200, {"resent": 1, "next_cursor": None})),
    ("delivery-queue-reversal", DELIVERY, BATCH),
    ("conversion-payment-disputed", CONVERSION, DONE),
    ("conversion-payment-dispute-won", CONVERSION, DONE),
    ("attribution-explain", ATTRIBUTION, (200, {"referee_id": "bob"})),
    ("admin-end-code", ADMIN, (200, {"code": "ALICE-2026", "user_id": "alice"})),
]
# A refund during the hold, which fails later.
REFUND = [
    ("attribution-mint-vanity", ATTRIBUTION, (201, {"code": "ALICE-2026"})),
    ("attribution-attribute", ATTRIBUTION, (201, {"referee_id": "bob"})),
    ("conversion-order-completed", CONVERSION, DONE),
    ("conversion-order-refunded", CONVERSION, DONE),
    ("conversion-order-refund-failed", CONVERSION, DONE),
]


# The host name of the machine in env.json.
HOST = "host.docker.internal"


class Service:
    """The local service at an address that containers can reach."""

    def __init__(self, binary, host, work, hold=0):
        self.host = host
        env = {**os.environ, "HOLD_SECONDS": str(hold)}
        command = [binary, "--host", host, "--port", "0", "--dynamodb-port", "0"]
        self.process = Process(command, work / "local.log", env=env)
        try:
            self.url, self.dynamodb = until("the local service's start", 30, self.ready, self.process)
        except Failed:
            self.process.end()
            raise
        settings = pathlib.Path("env.json").read_text()
        for usual, now in ("9001", self.dynamodb), ("9000", self.url):
            settings = settings.replace(f"{HOST}:{usual}", f"{HOST}:{now.rsplit(':', 1)[1]}")
        settings = json.loads(settings)
        settings["Parameters"]["HOLD_SECONDS"] = str(hold)
        self.env = work / "env.json"
        self.env.write_text(json.dumps(settings))

    def ready(self):
        """The two addresses, as soon as the service has printed everything."""
        words = self.process.text().split()
        if "Ctrl-C" in words:
            return words[words.index("ready") + 1], words[words.index("DynamoDB") + 1]
        return None

    def referral(self, referee):
        status, _, body = call("GET", f"{self.url}/v1/referrals/{referee}")
        return json.loads(body) if status == 200 else {}


def sam(*arguments, service):
    """A `sam local` command with the settings of this run."""
    where = f"{HOST}:{service.host}"
    return ["sam", "local", *arguments, "--env-vars", str(service.env), "--add-host", where, "--skip-pull-image"]


def invoke(name, function, expected, service):
    """Sends one file to its function, and compares the answer with the expected one."""
    started = time.monotonic()
    command = sam("invoke", function, "--event", f"events/{name}.json", service=service)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    except subprocess.TimeoutExpired as expired:
        raise Failed(f"{name}: no answer from sam local invoke after 90 s\n{expired.stderr}") from expired
    # If a function returns nothing, SAM prints `null`. The last line is the answer; the lines before it are logs.
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    try:
        answer = json.loads(lines[-1])
        ok = done.returncode == 0 and matches(answer, expected)
    except (IndexError, ValueError):
        ok, answer = False, done.stdout
    print(f"{'ok' if ok else 'NOT OK':6} {name:34} {time.monotonic() - started:4.1f} s  {brief(answer)}", flush=True)
    if not ok:
        raise Failed(f"{name}: expected {expected}, got {answer}\n{done.stderr[-3000:]}")
    return answer


def matches(answer, expected):
    """Whether the answer equals the expected one or contains the expected fields."""
    if expected is None:
        return answer is None
    if isinstance(expected, tuple):
        status, expected = expected
        return answer.get("statusCode") == status and (expected is None or matches(json.loads(answer["body"]), expected))
    return all(name in answer and answer[name] == value for name, value in expected.items())


def brief(answer):
    """An answer, shortened to the rest of a line."""
    is_http = isinstance(answer, dict) and "statusCode" in answer
    text = f"{answer['statusCode']} {answer.get('body', '')}" if is_http else json.dumps(answer)
    return text if len(text) < 70 else text[:67] + "..."


def life(service):
    """A referral from its code to both delivered rewards, which are then taken back, one file per step."""
    for name, function, expected in LIFE:
        if name in ("conversion-order-completed", "conversion-order-cancelled"):
            # The subsystem refuses both rewards, and later both reversals, until an operator resends them.
            call("PUT", f"{service.url}/_local/subsystems/credit/script", {"answers": [400, 400]})
        answer = invoke(name, function, expected, service)
        if name == "attribution-land":
            cookies = answer.get("cookies") or answer.get("multiValueHeaders", {}).get("set-cookie")
            if not any(cookie.startswith("referral=") and "HttpOnly" in cookie for cookie in cookies or []):
                raise Failed(f"{name}: no cookie in {answer}")
        if name == "conversion-order-completed":
            # The stream, queues and subsystems of the local service do the next steps.
            until("bob's two rewards, refused", 30, lambda: settled(service.referral("bob"), "failed"))
        if name == "admin-redrive":
            until("bob's two rewards, delivered", 30, lambda: settled(service.referral("bob"), "delivered"))
        if name == "conversion-order-cancelled":
            until("bob's two reversals, refused", 30, lambda: reversals(service, "failed") == 2)
        if name == "admin-resend-all-reversals":
            until("bob's two reversals, delivered", 30, lambda: not reversals(service, "failed") + reversals(service, "issued"))
    referral = service.referral("bob")
    if (referral["status"], referral["void_reason"]) != ("voided", "order_cancelled") or not settled(referral, "reversed"):
        raise Failed(f"bob's referral is {referral}")


def settled(referral, status):
    rewards = referral.get("rewards", [])
    return len(rewards) == 2 and all(reward["status"] == status for reward in rewards)


def reversals(service, status):
    """The number of undelivered reversals with this status."""
    return len(json.loads(call("GET", f"{service.url}/admin/reversals?status={status}")[2])["items"])


def refund(service):
    """A full refund during the hold, which then fails."""
    states = {"conversion-order-refunded": ("voided", "order_refunded"), "conversion-order-refund-failed": ("converted", None)}
    for name, function, expected in REFUND:
        invoke(name, function, expected, service)
        if name in states:
            referral = service.referral("bob")
            if (referral["status"], referral["void_reason"]) != states[name]:
                raise Failed(f"{name}: bob's referral is {referral}")


def start_api(service, work, port):
    """The HTTP API: a code, a visit, an attribution by the visit's cookie."""
    command = sam("start-api", "--host", "127.0.0.1", "--port", str(port), "--warm-containers", "LAZY", service=service)
    api, process = f"http://127.0.0.1:{port}", Process(command, work / "start-api.log")
    try:
        until("sam local start-api", 60, lambda: f"Running on {api}" in process.text(), process)
        started = time.monotonic()
        status, _, body = call("PUT", f"{api}/v1/users/carol/code", {"code": "carol-invites"})
        expect("mint", (status, json.loads(body)["code"]), (201, "carol-invites"), body)
        print(f"ok     start-api: mint answers {status} after {time.monotonic() - started:.1f} s (a container starts)")
        started = time.monotonic()
        status, headers, body = call("GET", f"{api}/r/carol-invites")
        cookie = headers.get("Set-Cookie", "")
        expect("landing", (status, cookie.split("=")[0]), (302, "referral"), body)
        headers = {"Cookie": cookie.split(";")[0]}
        status, _, body = call("POST", f"{api}/v1/referrals", {"referee_id": "dave"}, headers)
        found = json.loads(body)
        expect("attribution", (status, found.get("referrer_id"), found.get("status")), (201, "carol", "pending"), body)
        print(f"ok     start-api: landing and attribution by its cookie, {time.monotonic() - started:.1f} s warm")
        status, _, body = call("GET", f"{api}/v1/referrals/unknown")
        expect("an unknown referral", (status, json.loads(body)["reason"]), (404, "referral_not_found"), body)
    except Failed as failed:
        raise Failed(f"{failed}\n{process.text()[-3000:]}") from failed
    finally:
        process.end()


def expect(what, found, wanted, body):
    if found != wanted:
        raise Failed(f"start-api: {what}: expected {wanted}, got {found}: {body}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the binary of the local service")
    parser.add_argument("--host", required=True, help="the address at which containers reach the host")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="a folder for logs and settings")
    parser.add_argument("--api-port", type=int, default=0, help="the port for start-api; by default a free one")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    mortal()

    files = {path.stem for path in pathlib.Path("events").glob("*.json")}
    covered = {name for name, *_ in LIFE + REFUND}
    if files != covered:
        raise Failed(f"files that are only in events/ or only in this test: {sorted(files ^ covered)}")
    started = time.monotonic()
    for hold, steps in (0, life), (3600, refund):
        service = Service(arguments.binary, arguments.host, arguments.work, hold)
        try:
            steps(service)
            if steps is life:
                start_api(service, arguments.work, arguments.api_port or free_port())
        finally:
            service.process.end()
    print(f"all {len(files)} event files and start-api: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"error: {failed}")
