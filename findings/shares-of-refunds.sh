#!/usr/bin/env bash
# Ten percent of an order and of its refund, rounded to cents by five JavaScript libraries for money.
#
# A reward can be a percentage of the order. A refund of the order, booked as a negative amount, then takes the same percentage
# back.
#
# Guessed: all round a half away from zero, so the share of a refund is the share of its order with the sign changed.
# Seen with the versions below:
#
#   library                      10 % of 12.35   of -12.35   of -0.05   orders from 0.01 to 100.00 that do not cancel
#   currency.js 2.0.4            1.24            -1.23       0.00       1000
#   dinero.js 2.0.2              1.23            -1.24       -0.01      9000
#   dinero.js 2.0.2, `halfUp`    1.24            -1.23       0.00       1000
#   money-math 2.6.3             1.24            -1.22       0.01       9000
#   stripe 23.1.0, `half-up`     1.24            -1.24       -0.01      0
#   big.js 7.0.1                 1.24            -1.24       -0.01      0
#
# So an order that is refunded in full can leave a cent with the referrer, or take one cent too many. Dinero.js rounds down by
# default. Its `halfUp` rounds a half up, Stripe's `half-up` rounds it away from zero. With money-math, the share of a
# small refund is positive. Compute the share of the positive amount, store it, and take back what is stored.
#
# usage: bash findings/shares-of-refunds.sh    (needs Node.js 20 or newer and a package registry)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

npm install --silent --no-audit --no-fund --ignore-scripts currency.js@2.0.4 dinero.js@2.0.2 money-math@2.6.3 stripe@23.1.0 big.js@7.0.1

cat >share.mjs <<'JAVASCRIPT'
import Big from "big.js";
import currency from "currency.js";
import { dinero, halfUp, multiply, toDecimal, transformScale, USD } from "dinero.js";
import math from "money-math";
import Stripe from "stripe";

const text = (cents) => (cents < 0 ? "-" : "") + (Math.abs(cents) / 100).toFixed(2);
const tenth = (cents) => multiply(dinero({ amount: cents, currency: USD }), { amount: 1, scale: 1 });
const shares = {
  "currency.js": (cents) => currency(text(cents)).multiply(0.1).toString(),
  "dinero.js": (cents) => toDecimal(transformScale(tenth(cents), 2)),
  "dinero.js, halfUp": (cents) => toDecimal(transformScale(tenth(cents), 2, halfUp)),
  "money-math": (cents) => math.percent(text(cents), "10.00"),
  "stripe, half-up": (cents) => Stripe.Decimal.from(text(cents)).mul(Stripe.Decimal.from("0.1")).toFixed(2, "half-up"),
  "big.js": (cents) => new Big(text(cents)).times("0.1").toFixed(2),
};
for (const [name, share] of Object.entries(shares)) {
  // As cents, so that -0.00 equals 0.00.
  const rounded = (cents) => Math.round(Number(share(cents)) * 100);
  let different = 0;
  for (let cents = 1; cents <= 10_000; cents++) if (rounded(cents) + rounded(-cents) !== 0) different++;
  console.log([name, ...[1235, -1235, -5].map((cents) => text(rounded(cents))), different].join(" | "));
}
JAVASCRIPT
node share.mjs | tee seen

cat >wanted <<'TEXT'
currency.js | 1.24 | -1.23 | 0.00 | 1000
dinero.js | 1.23 | -1.24 | -0.01 | 9000
dinero.js, halfUp | 1.24 | -1.23 | 0.00 | 1000
money-math | 1.24 | -1.22 | 0.01 | 9000
stripe, half-up | 1.24 | -1.24 | -0.01 | 0
big.js | 1.24 | -1.24 | -0.01 | 0
TEXT
diff -u wanted seen && echo 'as recorded'
