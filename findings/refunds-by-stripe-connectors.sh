#!/usr/bin/env bash
# An order of 1500, and refunds of 12 and of 300 of it, as three open-source connectors send them to Stripe.
#
# Stripe counts 150000 in USD, 1500 in JPY and 1500000 in KWD ("Supported currencies", Stripe documentation). A server on this
# machine records the requests of the connectors and refuses them.
#
# Guessed: a connector converts charges and refunds in the same way, and knows that the yen has no minor unit.
# Seen with the versions below, in Stripe's units. dj-stripe stores charges that Stripe reports, so its orders are given (in brackets):
#
#   connector                              currency   order      refund of 12   refund of 300
#   Vendure's payments plugin 3.5.6        USD        150000     1200           30000
#                                          JPY        1500       1200           30000
#                                          KWD        150000     1200           30000
#   dj-stripe 2.11.0                       USD        (150000)   1200           30000
#                                          JPY        (1500)     1200           1500
#                                          KWD        (1500000)  1200           30000
#   django-payments 4.1.0                  USD        150000     1200           30000
#                                          JPY        1500       12             300
#                                          KWD        150000     1200           30000
#
# Vendure divides yen by 100 when it charges, and not when it refunds. dj-stripe stores 1500 yen as 15.00, so it refunds 1200 yen
# for 12, and everything for 300. Vendure and django-payments charge a tenth of the dinars. A refund of 12 yen in the shop is then
# one of 1200 yen at Stripe, and a partial refund can be a full one. Compare a refund with its order as the same system reports it.
#
# usage: bash findings/refunds-by-stripe-connectors.sh    (needs Python 3.11 or newer, Node.js 20 or newer, and package registries)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dj-stripe==2.11.0 django-payments==4.1.0 stripe==15.6.2 django==5.2.19
npm install --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps @vendure/core@3.5.6 @vendure/payments-plugin@3.5.6 stripe@13.11.0

cat >vendure.cjs <<'JAVASCRIPT'
const { createServer } = require("node:http");
const { StripeService } = require("@vendure/payments-plugin/package/stripe/stripe.service.js");
const { Stripe } = require("stripe");

const amounts = [];
const server = createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  amounts.push(new URLSearchParams(body).get("amount"));
  response.writeHead(402, { "Content-Type": "application/json" }).end('{"error":{"type":"card_error","message":"recorded"}}');
});
server.listen(0, "127.0.0.1", async () => {
  class Recorded extends StripeService {
    getStripeClient() {
      return new Stripe("none", { protocol: "http", host: "127.0.0.1", port: server.address().port, maxNetworkRetries: 0 });
    }
  }
  const service = new Recorded({});
  const context = { channel: { token: "shop" }, languageCode: "en" };
  for (const currencyCode of ["USD", "JPY", "KWD"]) {
    // Vendure stores all amounts as hundredths.
    const order = { id: 1, code: "order", currencyCode, totalWithTax: 150_000 };
    await service.createPaymentIntent(context, order).catch(() => {});
    for (const amount of [1200, 30_000]) await service.createRefund(context, order, { transactionId: "payment" }, amount).catch(() => {});
    console.log(["vendure", currencyCode, ...amounts.splice(0)].join(" | "));
  }
  server.close();
});
JAVASCRIPT
cat >django_apps.py <<'PYTHON'
import http.server
import threading
import types
import urllib.parse
from decimal import Decimal

import django
from django.conf import settings
from django.core.management import call_command

amounts = []


class Server(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, b'{"id":"acct_1","object":"account"}')

    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        amounts.extend(form.get("amount") or form["line_items[0][price_data][unit_amount]"])
        self.answer(402, b'{"error":{"type":"card_error","message":"recorded"}}')

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
KEY = "sk_test_" + 24 * "0"
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "djstripe"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MIGRATION_MODULES=dict.fromkeys(["contenttypes", "auth", "djstripe"]),
    DJSTRIPE_FOREIGN_KEY_TO_FIELD="id",
    STRIPE_TEST_SECRET_KEY=KEY,
    STRIPE_LIVE_MODE=False,
    STRIPE_API_HOST=f"http://127.0.0.1:{server.server_port}",
    PAYMENT_HOST="localhost",
    USE_TZ=True,
)
django.setup()
call_command("migrate", run_syncdb=True, verbosity=0)

import stripe
from djstripe.models import Charge
from payments import PaymentError, PaymentStatus
from payments.stripe.providers import StripeProviderV3

ORDERS = {"USD": 150_000, "JPY": 1500, "KWD": 1_500_000}
for currency, amount in ORDERS.items():
    charge = {"id": f"ch_{currency}", "object": "charge", "livemode": False, "created": 1_772_407_799, "amount": amount}
    charge |= {"amount_refunded": 0, "currency": currency.lower(), "metadata": {}, "status": "succeeded"}
    for refund in (12, 300):
        try:
            Charge.sync_from_stripe_data(charge, api_key=KEY).refund(amount=Decimal(refund))
        except stripe.StripeError:
            pass
    print("dj-stripe", currency, f"({amount})", *amounts, sep=" | ")
    amounts.clear()

provider = StripeProviderV3(api_key=KEY, secure_endpoint=False)
for currency in ORDERS:
    payment = types.SimpleNamespace(
        pk=1,
        token="order",
        transaction_id="",
        currency=currency,
        total=Decimal(1500),
        status=PaymentStatus.CONFIRMED,
        billing_email="",
        billing_first_name="",
        billing_last_name="",
        get_success_url=lambda: "http://localhost/paid",
        get_failure_url=lambda: "http://localhost/failed",
        attrs=types.SimpleNamespace(session={"payment_intent": "payment"}),
    )
    for send, *refund in [(provider.create_session,), (provider.refund, Decimal(12)), (provider.refund, Decimal(300))]:
        try:
            send(payment, *refund)
        except PaymentError:
            pass
    print("django-payments", currency, *amounts, sep=" | ")
    amounts.clear()
PYTHON
{ node vendure.cjs && venv/bin/python django_apps.py; } | tee seen

cat >wanted <<'TEXT'
vendure | USD | 150000 | 1200 | 30000
vendure | JPY | 1500 | 1200 | 30000
vendure | KWD | 150000 | 1200 | 30000
dj-stripe | USD | (150000) | 1200 | 30000
dj-stripe | JPY | (1500) | 1200 | 1500
dj-stripe | KWD | (1500000) | 1200 | 30000
django-payments | USD | 150000 | 1200 | 30000
django-payments | JPY | 1500 | 12 | 300
django-payments | KWD | 150000 | 1200 | 30000
TEXT
diff -u wanted seen && echo 'as recorded'
