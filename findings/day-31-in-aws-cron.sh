#!/usr/bin/env bash
# The runs of `cron(0 10 31 * ? *)` in 2026, as four libraries compute them.
#
# A monthly payout or an expiry of points can be an EventBridge schedule on the 31st. Such libraries show the next runs in tests
# and tools, or compute which runs were missed. The expression is in AWS's form, with the year as the last of six fields.
#
# Guessed: the seven months that have a 31st, and backwards the same days. AWS's console leaves out shorter months, also for `31W`
# (issue 106 of winebarrel/cronplan). `cron(0 10 29 2 ? *)`, which was run first, is in 2028 next. Seen with the versions below:
#
#   library                 runs forwards   not on a 31st   backwards   29 February after 2026-01-01
#   aws-cron-parser 1.1.12  12              5               7           2026-03-01
#   pyawscron 1.0.7         1, an error                     7           an error
#   aws-croniter 2.1.1      7               0               7           2028-02-29
#   croner 11.0.1           7               0               7           2028-02-29
#
# aws-cron-parser adds the days that a month lacks to the next month: after 31 January come 3 March and 31 March, and 1 May after
# 31 March. So a test shows twelve payouts a year, two of them in March, where there are seven. Its own `prev` knows seven.
# pyawscron, with the same algorithm, raises "day is out of range for month" in February, also for `15,30`. For the end of every
# month, write `cron(0 10 L * ? *)`: all of them know it.
#
# usage: bash findings/day-31-in-aws-cron.sh    (needs Python 3.11 or newer, Node.js 20 or newer, and package registries)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyawscron==1.0.7 aws-croniter==2.1.1
npm install --silent --no-audit --no-fund --ignore-scripts aws-cron-parser@1.1.12 croner@11.0.1

cat >runs.mjs <<'JAVASCRIPT'
import parser from "aws-cron-parser";
import { Cron } from "croner";

const aws = (step) => (expression) => (date) => parser[step](parser.parse(expression), date);
// Croner has the field of the seconds in addition, and Monday is 2 with `alternativeWeekdays`, as in AWS.
const croner = (step) => (expression) => (date) =>
  new Cron(`0 ${expression}`, { timezone: "UTC", alternativeWeekdays: true })[step](1, date)[0];
const LIBRARIES = { "aws-cron-parser": [aws("next"), aws("prev")], croner: [croner("nextRuns"), croner("previousRuns")] };

function year(step, date) {
  const days = [];
  for (let run = step(date); run && run.getUTCFullYear() === 2026; run = step(run)) days.push(run.toISOString().slice(5, 10));
  return days;
}
const [START, END] = [new Date("2026-01-01T00:00:00Z"), new Date("2027-01-01T00:00:00Z")];
for (const [name, [next, previous]] of Object.entries(LIBRARIES)) {
  const [leap] = [next("0 10 29 2 ? *")(START)].map((date) => date.toISOString().slice(0, 10));
  console.log([name, "31", ...year(next("0 10 31 * ? *"), START)].join(" "));
  console.log([name, "31, backwards", ...year(previous("0 10 31 * ? *"), END).reverse()].join(" "));
  console.log([name, "last day", ...year(next("0 10 L * ? *"), START)].join(" "));
  console.log([name, "29 February", leap].join(" "));
}
JAVASCRIPT
cat >runs.py <<'PYTHON'
from datetime import UTC, datetime

from aws_croniter import AwsCroniter
from pyawscron import AWSCron

LIBRARIES = {
    "pyawscron": (
        lambda expression: lambda date: AWSCron(expression).occurrence(date).next(),
        lambda expression: lambda date: AWSCron(expression).occurrence(date).prev(),
    ),
    "aws-croniter": (
        lambda expression: lambda date: AwsCroniter(expression).get_next(date, 1)[0],
        lambda expression: lambda date: AwsCroniter(expression).get_prev(date, 1)[0],
    ),
}
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def year(step, date):
    days = []
    try:
        while (date := step(date)).year == 2026:
            days.append(f"{date:%m-%d}")
    except ValueError as error:
        days.append(f"({error})")
    return days


def leap(step):
    try:
        return f"{step(START):%Y-%m-%d}"
    except ValueError as error:
        return f"({error})"


for name, (following, previous) in LIBRARIES.items():
    print(name, "31", *year(following("0 10 31 * ? *"), START))
    print(name, "31, backwards", *reversed(year(previous("0 10 31 * ? *"), END)))
    print(name, "last day", *year(following("0 10 L * ? *"), START))
    print(name, "29 February", leap(following("0 10 29 2 ? *")))
PYTHON
{ node runs.mjs && venv/bin/python runs.py; } | tee seen

cat >wanted <<'TEXT'
aws-cron-parser 31 01-31 03-03 03-31 05-01 05-31 07-01 07-31 08-31 10-01 10-31 12-01 12-31
aws-cron-parser 31, backwards 01-31 03-31 05-31 07-31 08-31 10-31 12-31
aws-cron-parser last day 01-31 02-28 03-31 04-30 05-31 06-30 07-31 08-31 09-30 10-31 11-30 12-31
aws-cron-parser 29 February 2026-03-01
croner 31 01-31 03-31 05-31 07-31 08-31 10-31 12-31
croner 31, backwards 01-31 03-31 05-31 07-31 08-31 10-31 12-31
croner last day 01-31 02-28 03-31 04-30 05-31 06-30 07-31 08-31 09-30 10-31 11-30 12-31
croner 29 February 2028-02-29
pyawscron 31 01-31 (day is out of range for month)
pyawscron 31, backwards 01-31 03-31 05-31 07-31 08-31 10-31 12-31
pyawscron last day 01-31 02-28 03-31 04-30 05-31 06-30 07-31 08-31 09-30 10-31 11-30 12-31
pyawscron 29 February (day is out of range for month)
aws-croniter 31 01-31 03-31 05-31 07-31 08-31 10-31 12-31
aws-croniter 31, backwards 01-31 03-31 05-31 07-31 08-31 10-31 12-31
aws-croniter last day 01-31 02-28 03-31 04-30 05-31 06-30 07-31 08-31 09-30 10-31 11-30 12-31
aws-croniter 29 February 2028-02-29
TEXT
diff -u wanted seen && echo 'as recorded'
