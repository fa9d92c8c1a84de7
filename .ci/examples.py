"""Runs both example reward endpoints against the local service, then with repeated, forged and concurrent calls."""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import sys
import tempfile

from standardwebhooks.webhooks import Webhook
from support import Failed, Process, call, mortal, until

SECRET = "whsec_ZXhhbXBsZXMtb25seS1uby1zZWNyZXQtaGVyZS4u"


class Endpoint:
    """A running example: its process, its port, and the lines that it printed."""

    def __init__(self, command, log, environment):
        self.command, self.log, self.environment = command, log, environment
        self.start()

    def start(self):
        self.process = Process(self.command, self.log, env={**os.environ, **self.environment, "PORT": "0"})
        found = until("the endpoint listens", 20, lambda: re.search(r"listening on port (\d+)", self.process.text()), self.process)
        self.url = f"http://127.0.0.1:{found[1]}"

    def restart(self):
        """Ends it and starts it again on the same data."""
        self.process.end()
        self.log = self.log.with_suffix(".second.log")
        self.start()

    def lines(self, ending):
        return [line for line in self.process.text().splitlines() if line.endswith(ending)]

    def send(self, path, key, body, secret=SECRET):
        """Sends a signed call as the service does. Returns the status."""
        text, now = json.dumps(body), datetime.datetime.now(datetime.timezone.utc)
        headers = {
            "Idempotency-Key": key,
            "webhook-id": key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(key, now, text),
        }
        return call("POST", self.url + path, text.encode(), headers)[0]


def expect(what, seen, wanted):
    if seen != wanted:
        raise Failed(f"{what}: {seen!r} instead of {wanted!r}")


def referral(service):
    """Runs one referral on the service until both rewards are delivered."""
    expect("mint", call("PUT", f"{service}/v1/users/ada/code", {"code": "ada-invites"})[0], 201)
    expect("attribution", call("POST", f"{service}/v1/referrals", {"referee_id": "bob", "code": "ada-invites"})[0], 201)
    order = {"order_id": "o-1", "user_id": "bob", "amount": 4200, "currency": "USD"}
    entry = {"EventBusName": "referrals", "Source": "shop", "DetailType": "order.completed", "Detail": json.dumps(order)}
    headers = {"X-Amz-Target": "AWSEvents.PutEvents", "Content-Type": "application/x-amz-json-1.1"}
    expect("order", json.loads(call("POST", f"{service}/", {"Entries": [entry]}, headers)[2])["FailedEntryCount"], 0)

    def delivered():
        rewards = json.loads(call("GET", f"{service}/v1/referrals/bob")[2])["rewards"]
        return [reward["status"] for reward in rewards] == ["delivered", "delivered"]

    until("both rewards are delivered", 60, delivered)


def check(name, endpoint, delivered):
    """Sends an endpoint the calls that it must refuse, repeat or book."""
    expect(f"{name}: booked by the service", len(endpoint.lines(f"booked reward {delivered}")), 1)
    expect(f"{name}: a repeated call", endpoint.send("/rewards", delivered, {"reward_id": delivered}), 200)
    expect(f"{name}: repeated bookings", endpoint.lines(f"booked reward {delivered}")[1:], [f"already booked reward {delivered}"])

    forged = "whsec_" + "YW5vdGhlci1zZWNyZXQtb2YtMzItYnl0ZXMtbm90LW91cnM="
    expect(f"{name}: another secret", endpoint.send("/rewards", "eve:referrer", {}, forged), 401)
    expect(f"{name}: no signature", call("POST", f"{endpoint.url}/rewards", {})[0], 401)
    expect(f"{name}: bookings without a valid signature", endpoint.lines("eve:referrer"), [])

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: endpoint.send("/rewards", "carol:referee", {"n": 1}), range(32)))
    expect(f"{name}: 32 concurrent calls", set(statuses), {200})
    expect(f"{name}: bookings of 32 concurrent calls", endpoint.lines("booked reward carol:referee").count("booked reward carol:referee"), 1)

    reversal = f"{delivered}:reversal"
    expect(f"{name}: a reversal", endpoint.send("/rewards/reversals", reversal, {"reverses": delivered}), 200)
    expect(f"{name}: booked reversals", endpoint.lines(reversal), [f"booked reversal {reversal}"])

    endpoint.restart()
    for path, kind, key in (("/rewards", "reward", delivered), ("/rewards/reversals", "reversal", reversal)):
        expect(f"{name}: {key} after a restart", endpoint.send(path, key, {}), 200)
        expect(f"{name}: {key} is still booked", endpoint.lines(key), [f"already booked {kind} {key}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", required=True, help="the local service's program")
    parser.add_argument("--examples", required=True, type=pathlib.Path, help="the folder examples, dependencies installed")
    arguments = parser.parse_args()
    mortal()
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            commands = {
                "node": (["node", str(arguments.examples / "reward-endpoint-node/server.mjs")], {"DATA": str(folder / "bookings")}),
                "python": (
                    [sys.executable, str(arguments.examples / "reward-endpoint-python/server.py")],
                    {"DATABASE": str(folder / "bookings.sqlite")},
                ),
            }
            endpoints = {}
            for name, (command, data) in commands.items():
                endpoints[name] = Endpoint(command, folder / f"{name}.log", {**data, "WEBHOOK_SECRET": SECRET})
                processes.append(endpoints[name])
            settings = {
                "WEBHOOK_SECRET": SECRET,
                "CREDIT_ENDPOINT": f"{endpoints['node'].url}/rewards",
                "COUPON_ENDPOINT": f"{endpoints['python'].url}/rewards",
                "REFEREE_REWARD_TYPE": "coupon",
            }
            command = [arguments.service, "--port", "0", "--dynamodb-port", "0"]
            service = Process(command, folder / "service.log", env={**os.environ, **settings})
            try:
                ready = until("the service is ready", 30, lambda: re.search(r"ready (http\S+)", service.text()), service)
                referral(ready[1])
            finally:
                service.end()
            check("node", endpoints["node"], "bob:referrer")
            check("python", endpoints["python"], "bob:referee")
        except Failed as problem:
            for endpoint in processes:
                print(f"{endpoint.log.name}:\n{endpoint.process.text()}", file=sys.stderr)
            print(f"error: {problem}", file=sys.stderr)
            return 1
        finally:
            for endpoint in processes:
                endpoint.process.end()
    print("2 example endpoints booked each key once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
