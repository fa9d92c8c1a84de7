#!/usr/bin/env bash
# Refunds of a charge of 1000, made with Stripe's Python library against two fake Stripe servers that keep state.
#
# Stripe refunds a charge in parts until all of it is refunded, and never more. A refund without an amount is for the rest. A
# repeated `Idempotency-Key` is answered with the first refund ("Create a refund", "Idempotent requests", Stripe API reference).
# Stripe's libraries send such a key to repeat a request whose answer was lost.
#
# Guessed: both servers keep the sum of the refunds, refuse to exceed the charge, and know the key.
# Seen with the versions below:
#
#   requested                            stripe-stateful-mock 0.0.16   localstripe 1.15.10
#   300, then the rest                   300 + 700                     300 + 1000
#   everything, twice                    1000, then an error           1000 + 1000
#   300, then 900                        300, then an error            300 + 900
#   300, twice with the same key         300                           300 + 300
#
# localstripe adds all of them to `amount_refunded` without an error, so it reports up to 2000 refunded of 1000. A program that is
# tested only with it never sees that Stripe refuses a refund. A correct program, which refunds the rest or repeats a lost request,
# gets a wrong sum there. In such tests, check the requests that the program sends, not the sum that the server reports.
#
# usage: bash findings/refunds-in-fake-stripes.sh    (needs Python 3.11 or newer, Node.js 20 or newer, and package registries)
set -euo pipefail
folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check localstripe==1.15.10 stripe==16.1.0 requests==2.34.2
npm install --silent --no-audit --no-fund --ignore-scripts stripe-stateful-mock@0.0.16

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
mock=$(port)
node -e 'require("stripe-stateful-mock").createExpressApp().listen(Number(process.argv[1]), "127.0.0.1")' "$mock" &
servers+=($!)
localstripe=$(port)
# It writes its state to a file with a fixed name, which this script does not need.
cat >serve.py <<'PYTHON'
import sys

from aiohttp import web
from localstripe.resources import Store
from localstripe.server import app

Store.dump_to_disk = lambda _: None
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
PYTHON
venv/bin/python serve.py "$localstripe" >localstripe.log 2>&1 &
servers+=($!)
for used in "$mock" "$localstripe"; do
  until (exec 3<>"/dev/tcp/127.0.0.1/$used") 2>/dev/null; do sleep 0.2; done
done

cat >refund.py <<'PYTHON'
import sys

import stripe

REQUESTS = {
    "300, then the rest": [{"amount": 300}, {}],
    "everything, twice": [{}, {}],
    "300, then 900": [{"amount": 300}, {"amount": 900}],
    "300, twice with the same key": [{"amount": 300}, {"amount": 300}],
}


def source(name, client):
    if name == "stripe-stateful-mock":
        return "tok_visa"
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    return client.v1.payment_methods.create({"type": "card", "card": card}).id


for name, port in zip(("stripe-stateful-mock", "localstripe"), sys.argv[1:]):
    client = stripe.StripeClient("sk_test_0", base_addresses={"api": f"http://127.0.0.1:{port}"}, max_network_retries=0)
    for requested, refunds in REQUESTS.items():
        charge = client.v1.charges.create({"amount": 1000, "currency": "usd", "source": source(name, client)})
        seen = {}
        for number, refund in enumerate(refunds):
            key = f"{charge.id}-{0 if 'same key' in requested else number}"
            try:
                made = client.v1.refunds.create({"charge": charge.id, **refund}, {"idempotency_key": key})
                seen[made.id] = str(made.amount)
            except stripe.InvalidRequestError:
                seen["error"] = "error"
        charge = client.v1.charges.retrieve(charge.id)
        print(name, requested, " + ".join(seen.values()), f"{charge.amount_refunded} of {charge.amount}", sep=" | ")
PYTHON
venv/bin/python refund.py "$mock" "$localstripe" | tee seen

cat >wanted <<'TEXT'
stripe-stateful-mock | 300, then the rest | 300 + 700 | 1000 of 1000
stripe-stateful-mock | everything, twice | 1000 + error | 1000 of 1000
stripe-stateful-mock | 300, then 900 | 300 + error | 300 of 1000
stripe-stateful-mock | 300, twice with the same key | 300 | 300 of 1000
localstripe | 300, then the rest | 300 + 1000 | 1300 of 1000
localstripe | everything, twice | 1000 + 1000 | 2000 of 1000
localstripe | 300, then 900 | 300 + 900 | 1200 of 1000
localstripe | 300, twice with the same key | 300 + 300 | 600 of 1000
TEXT
diff -u wanted seen && echo 'as recorded'
