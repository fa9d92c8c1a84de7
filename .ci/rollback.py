"""Goes back to version 0.1.0 on the data of this version, and forward again, with the local services of both versions.

One folder (`--data` of the local service) holds the table, the queues and the secrets. Version 0.1.0 wrote its first content. The
ids of the users say which version wrote the rest: `new-...` this version, `old-...` version 0.1.0 after the rollback.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from support import Failed, Process, call, mortal, until

THIS, FORMER = "this version", "version 0.1.0"
# The limit of each wait, also on a slow machine.
PATIENCE = 120
# Ends only after the rollback, also on a slow machine, and is short enough to wait for.
HOLD = 60
DAY = 24 * 60 * 60
# The delay queue delivers each event again after 10 seconds. The sweep announces rewards again 20 seconds after the issue.
COPIES = 25

# The status of a referral, and of both rewards.
PENDING, CONVERTED, VOIDED = ("pending",), ("converted",), ("voided",)
UNDELIVERED, DELIVERED = ("rewarded", "issued", "issued"), ("rewarded", "delivered", "delivered")
FAILED, REVERSED = ("rewarded", "failed", "failed"), ("voided", "reversed", "reversed")
REWARDS, REVERSALS = ("referee", "referrer"), ("referee:reversal", "referrer:reversal")
# What version 0.1.0 wrote at first, after all that was due is done.
FIRST = {
    "delivered": DELIVERED,
    "due": DELIVERED,
    "undelivered": DELIVERED,
    "refused": FAILED,
    "pending": PENDING,
    "held": CONVERTED,
    "cancelled": VOIDED,
}
REASON = {"reason": "a test of the rollback"}


def say(text):
    print(text, flush=True)


def expect(what, found, wanted):
    if found != wanted:
        raise Failed(f"{what}: expected {wanted}, got {found}")
    say(f"ok     {what}")


class Service:
    """A local service on the folder."""

    def __init__(self, what, program, data, work, hold):
        self.what, self.started = what, time.monotonic()
        log = work / f"{len(list(work.glob('*.log'))) + 1}.log"
        unwanted = ("PORT", "CACHE_URL")
        env = {name: value for name, value in os.environ.items() if name not in unwanted and not name.endswith("_ENDPOINT")}
        env |= {"LOG_LEVEL": "INFO", "NO_COLOR": "1", "HOLD_SECONDS": str(hold)}
        command = [str(program), "--port", "0", "--dynamodb-port", "0", "--data", str(data)]
        self.process = Process(command, log, env=env)
        ready = r"ready (http\S+)\nDynamoDB (http\S+)"
        try:
            found = until(f"{what} is ready", PATIENCE, lambda: re.search(ready, self.process.text()), self.process)
        except Failed:
            self.process.end()
            raise
        self.url, self.dynamodb = found.groups()
        say(f"\n== {what}, with a hold of {hold} s ({log.name})")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stop()
        finally:
            self.process.end()

    def stop(self):
        """Ends it in the way that lets running work finish."""
        self.process.check()
        self.process.send(signal.SIGTERM)
        try:
            code = self.process.process.wait(30)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.what} does not end") from None
        expect(f"{self.what} ended after {time.monotonic() - self.started:.0f} s, without an error", code, 0)

    def until(self, what, probe):
        until(f"{self.what}: {what}", PATIENCE, probe, self.process)
        say(f"ok     {what}")

    def wait_for_copies(self):
        say(f"       waiting for {COPIES} s, until the copies of all events are processed")
        time.sleep(COPIES)

    def ask(self, method, path, body=None, headers=None):
        """Returns the status and the answer, parsed."""
        try:
            status, _, text = call(method, self.url + path, body, headers)
        except OSError as error:
            raise Failed(f"{self.what}: {method} {path}: {error}") from None
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def do(self, method, path, body=None, wanted=200):
        """Returns the answer; fails at another status."""
        status, answer = self.ask(method, path, body)
        if status != wanted:
            raise Failed(f"{self.what}: {method} {path}: {status} {answer}")
        return answer

    def get(self, path):
        return self.do("GET", path)

    def pages(self, path):
        """All items of a list, page by page."""
        items, cursor = [], ""
        for _ in range(100):
            page = self.get(path + cursor)
            items += page["items"]
            if not page["next_cursor"]:
                return items
            cursor = f"&cursor={page['next_cursor']}"
        raise Failed(f"{self.what}: GET {path}: the list does not end")

    def publish(self, kind, **detail):
        entry = {"EventBusName": "referrals", "Source": "shop", "DetailType": kind, "Detail": json.dumps(detail)}
        headers = {"X-Amz-Target": "AWSEvents.PutEvents", "Content-Type": "application/x-amz-json-1.1"}
        status, answer = self.ask("POST", "/", {"Entries": [entry]}, headers)
        if status != 200 or answer["FailedEntryCount"]:
            raise Failed(f"{self.what}: PutEvents: {status} {answer}")

    def order(self, user, order=None):
        self.publish("order.completed", order_id=order or f"o-{user}", user_id=user, amount=4200, currency="USD")

    def cancel(self, user):
        self.publish("order.cancelled", order_id=f"o-{user}", user_id=user)

    def refund(self, user, amount, currency):
        self.publish(
            "order.refunded", refund_id=f"r-{user}", order_id=f"o-{user}", user_id=user, amount=amount, currency=currency
        )

    def mint(self, user, code):
        self.do("PUT", f"/v1/users/{user}/code", {"code": code}, 201)
        say(f"ok     {user} gets the code {code}")

    def sign_up(self, *referees, code="ada-invites"):
        for referee in referees:
            self.do("POST", "/v1/referrals", {"referee_id": referee, "code": code}, 201)

    def owner_is_flagged(self, code):
        answer = self.do("POST", "/v1/referrals", {"referee_id": "new-visitor", "code": code}, 422)
        expect(f"the owner of {code} is flagged", answer["reason"], "referrer_flagged")

    def resend(self, referee):
        for side in REWARDS:
            self.do("POST", f"/admin/rewards/{referee}:{side}/resend", wanted=202)

    def script(self, *statuses):
        """The next answers of the stand-in for the credit subsystem."""
        self.do("PUT", "/_local/subsystems/credit/script", {"answers": statuses}, 204)

    def subsystem_is_down(self):
        self.script(*[500] * 1000)

    def referral(self, referee):
        return self.get(f"/v1/referrals/{referee}")

    def state(self, referee):
        referral = self.referral(referee)
        return (referral["status"], *(reward["status"] for reward in referral["rewards"]))

    def states(self, referees):
        return {referee: self.state(referee) for referee in referees}

    def void_reasons(self, *referees):
        return {referee: self.referral(referee)["void_reason"] for referee in referees}

    def reaches(self, state, *referees):
        """Waits until all these referrals are in this state."""
        found = {}

        def reached():
            found.update(self.states(referees))
            return set(found.values()) == {state}

        try:
            self.until(f"{', '.join(referees)}: {', '.join(state)}", reached)
        except Failed as failed:
            raise Failed(f"{failed}: {found}") from None

    def calls(self):
        return self.get("/_local/deliveries")

    def are_taken_back(self, *referees):
        """Waits until each reward and each reversal of these referrals was accepted once."""
        def done():
            counts = accepted(self.calls())
            return all(counts[name] == 1 for referee in referees for name in instructions(referee, REWARDS + REVERSALS))

        self.until(f"{', '.join(referees)}: rewards and reversals accepted once", done)

    def are_tried(self, referee, kinds):
        """Waits until the subsystem, which is down, was called with these instructions."""
        def done():
            return {key(one) for one in self.calls() if one["status"] == 500} >= instructions(referee, kinds)

        self.until(f"{referee}: calls without an answer", done)

    def refused_reversals(self):
        return {reversal["reversal_id"] for reversal in self.pages("/admin/reversals?status=failed")}

    def quarantined(self):
        """The orders of the quarantined events."""
        return {one["body"]["payload"]["detail"]["order_id"] for one in self.get("/_local/parked")["items"]}

    def logged_only(self, *allowed):
        """Every line at ERROR contains one of these texts."""
        lines = [line for line in self.process.text().splitlines() if re.search(r"\bERROR\b", line)]
        expect("no unexpected line at ERROR", [line for line in lines if not any(text in line for text in allowed)], [])


class Tools:
    """The operators' commands of this version."""

    def __init__(self, programs):
        self.programs, self.counts = programs, 0

    def run(self, name, service, *arguments):
        """Returns the exit code and the output."""
        keys = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        env = os.environ | keys | {"AWS_ENDPOINT_URL_DYNAMODB": service.dynamodb}
        command = [str(self.programs / name), *arguments]
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{name}: not within {PATIENCE} s") from None
        return done.returncode, (done.stdout + done.stderr).strip()

    def claim_orders(self, service):
        code, output = self.run("claim-orders", service, "--table", "referrals")
        if code:
            raise Failed(f"claim-orders ended with {code}:\n{output}")
        say(f"ok     claim-orders: {output.splitlines()[-1]}")

    def compare_analytics(self, service):
        """Waits until the analytics in use equal those that are counted again from the table."""
        output = ""

        def equal():
            nonlocal output
            self.counts += 1
            into = f"counted-{self.counts}"
            code, output = self.run("rebuild", service, "--from", "referrals", "--into", into, "--compare-with", "metrics")
            return code == 0

        try:
            until("rebuild finds no differences", 30, equal, service.process)
        except Failed as failed:
            raise Failed(f"{failed}:\n{output}") from None
        say(f"ok     rebuild: {output.splitlines()[-1]}")


def key(one):
    return one["headers"]["idempotency-key"]


def instructions(referee, kinds):
    return {f"{referee}:{kind}" for kind in kinds}


def accepted(calls):
    """How often the subsystem accepted each instruction."""
    return collections.Counter(key(one) for one in calls if one["status"] == 200)


def contents(calls):
    """What both versions show of a call in the same form."""
    return [(key(one), one["body"], one["status"]) for one in calls]


def nothing_is_paid_twice(calls, before):
    """Compares all calls so far. `before` are those that the service before this one showed."""
    expect("the journal still has all earlier calls", contents(calls[: len(before)]), contents(before))
    bodies = {}
    for name, body, _ in contents(calls):
        if body != bodies.setdefault(name, body):
            raise Failed(f"two bodies with the key {name}: {bodies[name]} and {body}")
    counts = accepted(calls)
    expect(f"{len(counts)} keys: one body each, accepted once", {name for name in counts if counts[name] > 1}, set())


def this_version_writes(start, tools):
    """Brings referrals into every state. Returns these, and all calls."""
    with start(THIS, 0) as service:
        service.reaches(DELIVERED, "due", "undelivered")
        service.mint("new-trudy", "trudy-invites")
        service.mint("new-victor", "victor-invites")
        service.sign_up("new-pending", "new-early", "new-undelivered", "new-called", "new-refused")
        orders = ("new-delivered", "new-reversed", "new-taken-back", "new-open", "new-unreversed")
        service.sign_up(*orders)
        service.publish("order.cancelled", order_id="o-new-early")
        for referee in orders:
            service.order(referee)
        service.reaches(DELIVERED, *orders)
        service.cancel("new-reversed")
        service.do("POST", "/admin/referrals/new-taken-back/void", REASON)
        service.are_taken_back("new-reversed", "new-taken-back")
        service.script(400, 400)
        service.order("new-refused")
        service.reaches(FAILED, "new-refused")
        service.script(400, 400)
        service.cancel("new-unreversed")
        refused = instructions("new-unreversed", REVERSALS)
        service.until("new-unreversed: reversals refused", lambda: service.refused_reversals() == refused)
        service.do("PUT", "/admin/accounts/new-trudy/flag", {"flagged": True, **REASON})
        service.publish("account.flagged", user_id="new-victor", **REASON)
        service.wait_for_copies()
        service.owner_is_flagged("trudy-invites")
        service.owner_is_flagged("victor-invites")
        tools.compare_analytics(service)
        service.logged_only("refused_permanently", "reversal_refused")

    # A referral keeps the hold that was set at its sign-up.
    with start(THIS, DAY) as service:
        service.sign_up("new-long", "new-next")
        convert(service, "new-long", "new-next")
        keep_candidate(service, "new-next")

    with start(THIS, HOLD) as service:
        held = ("new-held", "new-candidate", "new-refunded", "new-voided", "new-reopened", "new-unclear")
        service.sign_up(*held)
        convert(service, *held)
        keep_candidate(service, "new-candidate")
        service.refund("new-refunded", 4200, "USD")
        service.refund("new-unclear", 100, "EUR")
        for referee in "new-voided", "new-reopened":
            service.do("POST", f"/admin/referrals/{referee}/void", REASON)
        service.do("POST", "/admin/referrals/new-reopened/reopen", REASON)
        service.reaches(VOIDED, "new-refunded", "new-voided")
        service.until("new-unclear needs a decision", lambda: service.get("/admin/referrals/new-unclear")["attention"])
        # These rewards and reversals wait until after the rollback.
        service.subsystem_is_down()
        for referee in "new-undelivered", "new-called":
            service.order(referee)
            service.are_tried(referee, REWARDS)
        for referee in "new-called", "new-open":
            service.cancel(referee)
        service.are_tried("new-open", REVERSALS)
        expected = FIRST | {
            "new-pending": PENDING,
            "new-early": PENDING,
            "new-undelivered": UNDELIVERED,
            "new-delivered": DELIVERED,
            "new-refused": FAILED,
            "new-called": REVERSED,
            "new-open": REVERSED,
            "new-unreversed": REVERSED,
            "new-reversed": REVERSED,
            "new-taken-back": REVERSED,
            "new-held": CONVERTED,
            "new-long": CONVERTED,
            "new-candidate": CONVERTED,
            "new-next": CONVERTED,
            "new-reopened": CONVERTED,
            "new-unclear": CONVERTED,
            "new-refunded": VOIDED,
            "new-voided": VOIDED,
        }
        expect("every referral, before the rollback", service.states(expected), expected)
        # Version 0.1.0 would not count the stream records of reversals.
        tools.compare_analytics(service)
        service.logged_only("quarantined")
        return expected, service.calls()


def convert(service, *referees):
    for referee in referees:
        service.order(referee)
    service.reaches(CONVERTED, *referees)


def keep_candidate(service, referee):
    """Publishes another order, and waits until it is kept."""
    service.order(referee, f"o-{referee}-2")

    def is_kept():
        decisions = service.get(f"/v1/referrals/{referee}/explain")["decisions"]
        return [one["order_id"] for one in decisions if one["outcome"] == "candidate"] == [f"o-{referee}-2"]

    service.until(f"{referee} keeps another order", is_kept)


def as_former(states):
    """The states as version 0.1.0 shows them: a voided referral has no rewards."""
    return {referee: VOIDED if state == REVERSED else state for referee, state in states.items()}


def the_former_version_shows(service, expected):
    """Version 0.1.0 can read everything."""
    # Their hold may have ended by now, and the subsystem is available again.
    moving = ("new-undelivered", "new-held", "new-candidate", "new-reopened", "new-unclear")
    still = {referee: state for referee, state in as_former(expected).items() if referee not in moving}
    expect("every referral, after the rollback", service.states(still), still)
    found = {state[0] for state in service.states(moving).values()}
    expect("the others are converted or rewarded", found - {"converted", "rewarded"}, set())
    reasons = {
        "new-reversed": "order_cancelled",
        "new-refunded": "order_refunded",
        # It does not know operators as a reason.
        "new-voided": "referee_flagged",
        "new-taken-back": "referee_flagged",
    }
    expect("reasons of voids", service.void_reasons(*reasons), reasons)
    listed = [referral["referee_id"] for referral in service.pages("/v1/users/ada/referrals?limit=7")]
    expect("ada's referrals are listed", sorted(listed), sorted(expected))
    listed = {reward["reward_id"].split(":")[0] for reward in service.pages("/v1/users/ada/rewards?limit=7")}
    expect("ada's rewards are listed, without those of voided referrals",
           listed & still.keys(), {referee for referee, state in still.items() if state[0] == "rewarded"})
    # With the default limit. A page of version 0.1.0 that would end at a reversal's item never ends.
    listed = {reward["reward_id"] for reward in service.pages("/admin/rewards?status=failed")}
    expect("refused rewards are listed", listed, instructions("refused", REWARDS) | instructions("new-refused", REWARDS))
    for path in (
        "/v1/users/ada/code",
        "/v1/codes/ada-invites",
        "/admin/rewards?status=issued",
        "/admin/liability",
        "/admin/dead-letters",
        "/admin/programs/default/daily",
        "/admin/programs/default/referrers?period=all",
        "/admin/programs/default/cohorts",
        "/dashboard",
    ):
        service.get(path)
    say("ok     all other paths answer")


def the_former_version_continues(start, expected, before):
    """Version 0.1.0 continues what this version began. Returns the states of all referrals, and all calls."""
    with start(FORMER, 0) as service:
        the_former_version_shows(service, expected)

        service.order("new-pending")
        service.reaches(DELIVERED, "new-pending", "new-undelivered")
        service.mint("old-zoe", "zoe-invites")
        service.do("PUT", "/v1/users/ada/code", {"code": "ada-invites"})
        service.sign_up("old-delivered", code="zoe-invites")
        service.sign_up("old-pending", "old-refused", "old-early", "old-undelivered")
        service.order("old-delivered")
        service.reaches(DELIVERED, "old-delivered")
        service.resend("new-refused")
        service.reaches(DELIVERED, "new-refused")
        service.owner_is_flagged("trudy-invites")
        service.owner_is_flagged("victor-invites")
        service.publish("account.cleared", user_id="new-trudy")

        # It knows neither the other order that this version kept, nor the cancellation that it noted.
        service.cancel("new-next")
        service.reaches(VOIDED, "new-next")
        service.order("new-early")
        service.reaches(DELIVERED, "new-early")
        # A cancellation before its order, noted in the way of version 0.1.0.
        service.cancel("old-early")
        # It requires a user.
        service.publish("order.cancelled", order_id="o-new-held")
        service.until("a cancellation without a user is quarantined", lambda: "o-new-held" in service.quarantined())
        # All of these change nothing.
        for referee in "new-delivered", "new-reversed", "new-taken-back", "new-open", "new-refunded", "new-voided":
            service.order(referee)
        for referee in "new-delivered", "new-reversed", "new-open":
            service.cancel(referee)
        service.reaches(DELIVERED, "new-held", "new-candidate", "new-reopened")
        expect("the first order counts", service.referral("new-candidate")["order_id"], "o-new-candidate")
        service.wait_for_copies()

        service.script(400, 400)
        service.order("old-refused")
        service.reaches(FAILED, "old-refused")
        service.subsystem_is_down()
        service.order("old-undelivered")
        service.are_tried("old-undelivered", REWARDS)

        done = (
            "new-pending", "new-undelivered", "new-refused", "new-early", "new-held", "new-candidate", "new-reopened",
            "old-delivered",
        )
        expected = expected | dict.fromkeys(done, DELIVERED) | {
            "new-next": VOIDED,
            "old-pending": PENDING,
            "old-early": PENDING,
            "old-refused": FAILED,
            "old-undelivered": UNDELIVERED,
        }
        expect("every referral, before the next update", service.states(expected), as_former(expected))
        calls = service.calls()
        nothing_is_paid_twice(calls, before)
        called = {key(one).split(":")[0] for one in calls[len(before) :]}
        expect("no call for a voided referral", {referee for referee in called if expected[referee][0] == "voided"}, set())
        # It expects only referrals in the index of work, which has open and refused reversals too.
        reversals = map(unreadable, ("new-open", "new-called", "new-unreversed"))
        service.logged_only('outcome="refused for good"', 'outcome="parked"', *reversals)
        return expected, calls


def unreadable(referee):
    """How version 0.1.0 reports an item of this referral that it cannot read."""
    return f"item REFEREE#{hashlib.sha256(referee.encode()).hexdigest()[:16]} cannot be read"


def this_version_returns(start, tools, expected, before):
    """This version continues what version 0.1.0 did."""
    with start(THIS, 0) as service:
        service.are_taken_back("new-open", "new-called")
        service.reaches(DELIVERED, "old-undelivered")
        expected = expected | {"old-undelivered": DELIVERED}
        expect("every referral, after the next update", service.states(expected), expected)
        for referee in expected:
            service.get(f"/v1/referrals/{referee}/explain")
            service.get(f"/admin/referrals/{referee}")
        say("ok     each is explained, and shown to operators")
        reasons = {"new-taken-back": "operator", "new-voided": "operator", "new-next": "order_cancelled"}
        expect("reasons of voids", service.void_reasons(*reasons), reasons)
        expect("no reward waits", service.pages("/admin/rewards?status=issued"), [])
        expect("no reversal waits", service.pages("/admin/reversals?status=issued"), [])
        expect("refused reversals are listed", service.refused_reversals(), instructions("new-unreversed", REVERSALS))
        tools.compare_analytics(service)

        # What both versions left to operators and to the shop.
        service.sign_up("new-visitor", code="trudy-invites")
        for referee in "refused", "old-refused":
            service.resend(referee)
        for reversal in instructions("new-unreversed", REVERSALS):
            service.do("POST", f"/admin/reversals/{reversal}/resend", wanted=202)
        service.do("POST", "/admin/reviews/new-unclear/approve", REASON)
        service.order("old-pending")
        service.order("old-early")
        service.reaches(DELIVERED, "refused", "old-refused", "new-unclear", "old-pending")
        service.reaches(VOIDED, "old-early")
        # Version 0.1.0 converted this one, without a claim of its order.
        service.cancel("new-pending")
        service.reaches(REVERSED, "new-pending")

        # What an operator does after an update that follows a rollback: claim the orders, and replay the events of that time.
        tools.claim_orders(service)
        service.reaches(REVERSED, "new-early")
        service.cancel("new-delivered")
        service.publish("order.cancelled", order_id="o-new-held")
        service.order("new-next", "o-new-next-2")
        service.reaches(REVERSED, "new-delivered", "new-held")
        service.reaches(CONVERTED, "new-next")
        expect("the order that was kept counts", service.referral("new-next")["order_id"], "o-new-next-2")
        service.publish("order.cancelled", order_id="o-old-delivered")
        service.reaches(REVERSED, "old-delivered")

        # All of these change nothing.
        for referee in "new-reversed", "new-taken-back", "new-refunded", "new-voided", "new-pending", "new-candidate":
            service.order(referee)
        taken_back = ("new-pending", "new-early", "new-delivered", "new-held", "old-delivered")
        service.are_taken_back("new-unreversed", *taken_back)
        service.wait_for_copies()
        expected = expected | dict.fromkeys(taken_back, REVERSED)
        expected |= dict.fromkeys(("refused", "old-refused", "new-unclear", "old-pending"), DELIVERED)
        expected |= {"old-early": VOIDED, "new-next": CONVERTED, "new-visitor": PENDING}
        expect("every referral, at the end", service.states(expected), expected)
        calls = service.calls()
        nothing_is_paid_twice(calls, before)
        wanted = {DELIVERED: REWARDS, REVERSED: REWARDS + REVERSALS}
        wanted = {name for referee, state in expected.items() for name in instructions(referee, wanted.get(state, ()))}
        expect("exactly the rewards and reversals of these states were accepted", accepted(calls).keys(), wanted)
        tools.compare_analytics(service)
        expect("the orders of quarantined events", service.quarantined(), {"o-broken", "o-new-unclear", "o-new-held"})
        letters = service.get("/admin/dead-letters")["items"]
        expect("no dead letters", {queue["queue"] for queue in letters if queue["messages"]}, set())
        service.logged_only()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--former", required=True, type=pathlib.Path, help="the local service of version 0.1.0")
    parser.add_argument("--programs", required=True, type=pathlib.Path, help="a folder with local, rebuild and claim-orders")
    parser.add_argument("--data", required=True, type=pathlib.Path, help="a data folder that version 0.1.0 wrote")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="a folder for data and logs")
    arguments = parser.parse_args()
    mortal()
    started = time.monotonic()
    work = arguments.work
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shutil.copytree(arguments.data, work / "data")

    def start(what, hold):
        program = arguments.programs / "local" if what == THIS else arguments.former
        return Service(what, program, work / "data", work, hold)

    tools = Tools(arguments.programs)
    expected, calls = this_version_writes(start, tools)
    expected, calls = the_former_version_continues(start, expected, calls)
    this_version_returns(start, tools, expected, calls)
    say(f"\nthe rollback and the next update: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"error: {failed}")
