#!/usr/bin/env bash
# The time of a webhook, as Python's `sign` of two Standard Webhooks libraries takes it, checked by their JavaScript versions.
#
# A sender passes the time as a `datetime`, and writes `int(time.timestamp())` into the header `webhook-timestamp`. The same
# instants, 12:00 UTC in January and in July 2026, are given in several forms, on machines in several time zones.
#
# Guessed before the first run: a `datetime` with a zone is an instant, so its zone changes nothing. (For those without a zone, no
# guess was written down; `timestamp()` takes them as local time.) Seen with standardwebhooks 1.1.0 and svix 2.9.1 (Python),
# standardwebhooks 1.1.1 and svix 2.5.0 (JavaScript), whether the receiver's signature is the same:
#
#   time                       January   July
#   in UTC                     yes       yes
#   in Europe/Paris            no        no
#   local, TZ=UTC              yes       yes
#   local, TZ=Europe/London    yes       no
#   local, TZ=America/Bogota   no        no
#
# Both replace the zone by UTC instead of converting the time, without an error (issue 251 of standard-webhooks). The signature is
# then for another second than the header, and each receiver refuses it. In London, the deliveries of a sender with
# `datetime.now()` are refused in summer only, and its tests pass in winter and in CI. A `datetime` without a zone is UTC for
# `sign`, but local for `timestamp()`. JavaScript's `sign` takes a Date, which is always an instant. Pass `datetime.now(UTC)`.
#
# usage: bash findings/zones-of-webhook-times.sh    (needs Python 3.11 or newer, Node.js 20 or newer, and package registries)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check standardwebhooks==1.1.0 svix==2.9.1 tzdata==2026.6
npm install --silent --no-audit --no-fund --ignore-scripts standardwebhooks@1.1.1 svix@2.5.0

cat >sign.py <<'PYTHON'
import json
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import standardwebhooks, svix.webhooks

SECRET = "whsec_" + "c2VjcmV0" * 4
FORMS = {
    "utc": lambda time: time,
    "paris": lambda time: time.astimezone(ZoneInfo("Europe/Paris")),
    "local": lambda time: datetime.fromtimestamp(time.timestamp()),
}
zone, *forms = sys.argv[1:]
for name, library in {"standardwebhooks": standardwebhooks, "svix": svix.webhooks}.items():
    for form in forms:
        for month in (1, 7):
            time = FORMS[form](datetime(2026, month, 15, 12, tzinfo=UTC))
            signature = library.Webhook(SECRET).sign("msg_1", time, '{"points":500}')
            print(json.dumps([name, form, zone, month, int(time.timestamp()), SECRET, signature]))
PYTHON
cat >check.mjs <<'JAVASCRIPT'
import { createInterface } from "node:readline";
import * as standardwebhooks from "standardwebhooks";
import * as svix from "svix";

const libraries = { standardwebhooks, svix };
for await (const line of createInterface({ input: process.stdin })) {
  const [name, form, zone, month, seconds, secret, signature] = JSON.parse(line);
  // As `verify` computes it, which would also refuse the old time.
  const wanted = new libraries[name].Webhook(secret).sign("msg_1", new Date(seconds * 1000), '{"points":500}');
  console.log([name, form, zone, month === 1 ? "January" : "July", signature === wanted ? "yes" : "no"].join(" | "));
}
JAVASCRIPT
{
  TZ=UTC venv/bin/python sign.py UTC utc paris local
  TZ=Europe/London venv/bin/python sign.py Europe/London utc local
  TZ=America/Bogota venv/bin/python sign.py America/Bogota utc local
} | node check.mjs | tee seen

for name in standardwebhooks svix; do
  cat <<TEXT
$name | utc | UTC | January | yes
$name | utc | UTC | July | yes
$name | paris | UTC | January | no
$name | paris | UTC | July | no
$name | local | UTC | January | yes
$name | local | UTC | July | yes
$name | utc | Europe/London | January | yes
$name | utc | Europe/London | July | yes
$name | local | Europe/London | January | yes
$name | local | Europe/London | July | no
$name | utc | America/Bogota | January | yes
$name | utc | America/Bogota | July | yes
$name | local | America/Bogota | January | no
$name | local | America/Bogota | July | no
TEXT
done | sort >wanted
diff -u wanted <(sort seen) && echo 'as recorded'
