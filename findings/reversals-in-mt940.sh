#!/usr/bin/env bash
# Bookings that a bank takes back, in a bank statement in SWIFT's format MT940, as eight parsers read them.
#
# The mark of a booking is C (credit), D (debit), RC (reversal of a credit, which is a debit entry) or RD (reversal of a debit,
# which is a credit entry). In this statement the payment of an order and the payout of a reward are both taken back, so the
# closing balance equals the opening balance, 1000.00.
#
# Guessed before the first run: C and RD are positive, D and RC are negative, and all parsers agree. Seen with the versions below:
#
#   parser                             C 100   D 30   RC 100   RD 30   opening balance and bookings
#   PyPI mt-940 5.1.1                  100     -30    100      30      1200
#   PyPI mt-940 5.1.1, reversal_sign   100     -30    -100     30      1000
#   PyPI mt940 0.8.1                   100     -30    -100     30      1000
#   bankfile 0.2.0                     100     -30    -100     30      1000
#   bankstatementparser 0.0.29         100     -30    -100     30      1000
#   camt053-loader-mt940 0.0.23        100     -30    100      -30     1140
#   npm mt940js 1.3.5                  100     -30    -100     30      1000
#   npm mt940-js 1.0.0                 100     -30    100      -30     1140
#   @centrapay/swift-parser 1.0.1      100     -30    -100     30      1000
#
# Three of eight count a payment that was taken back as a second payment, without an error. mt-940 keeps this as its default (its
# issue 130), with an option `reversal_sign`. mt940-js says `isCredit` for RC, and does not tell that it is a reversal. The loader
# for camt053 says CRDT for RC and DBIT for RD, with `reversal_indicator`; camt053's own function for reversals turns a CRDT entry
# into DBIT. So a refund looks like income. Compare the opening balance and the bookings with the closing balance.
#
# usage: bash findings/reversals-in-mt940.sh    (needs Python 3.11 or newer, Node.js 20 or newer, and package registries)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# Two packages have the module `mt940`.
for name in first second; do python3 -m venv "$name"; done
first/bin/pip install --quiet --disable-pip-version-check mt-940==5.1.1 bankfile==0.2.0 bankstatementparser==0.0.29 camt053-loader-mt940==0.0.23 camt053==0.0.23
second/bin/pip install --quiet --disable-pip-version-check mt940==0.8.1
# mt940-js needs tslib, without saying so.
npm install --silent --no-audit --no-fund --ignore-scripts mt940js@1.3.5 mt940-js@1.0.0 tslib@1.14.1 @centrapay/swift-parser@1.0.1

cat >statement.sta <<'TEXT'
:20:STATEMENT
:25:12345678/0123456789
:28C:1/1
:60F:C260301EUR1000,00
:61:2603020302C100,00NTRFORDER-1
:86:order
:61:2603020302D30,00NTRFREWARD-1
:86:reward
:61:2603030303RC100,00NTRFORDER-1
:86:order taken back
:61:2603030303RD30,00NTRFREWARD-1
:86:reward returned
:62F:C260303EUR1000,00
TEXT
cat >first.py <<'PYTHON'
import bankfile, mt940
from bankstatementparser.additional_parsers import Mt940Parser
from camt053.reversal.reversal import build_reversal_record
from camt053_loader_mt940 import parse_mt940

TEXT = open("statement.sta").read()


def show(name, amounts):
    amounts = [int(amount) for amount in amounts]
    print(name, *amounts, 1000 + sum(amounts), sep=" | ")


show("mt-940", [entry.data["amount"].amount for entry in mt940.parse(TEXT)])
signed = mt940.parse(TEXT, options=mt940.Options(reversal_sign=True))
show("mt-940, reversal_sign", [entry.data["amount"].amount for entry in signed])
show("bankfile", [entry.amount for entry in bankfile.parse_bytes(TEXT.encode()).transactions])
show("bankstatementparser", Mt940Parser("statement.sta").parse()["amount"])
statement = parse_mt940(TEXT).statements[0]
SIGNS = {"CRDT": 1, "DBIT": -1}
show("camt053-loader-mt940", [SIGNS[entry.credit_debit_indicator] * entry.amount_decimal for entry in statement.entries])
print("camt053-loader-mt940", *(f"{entry.credit_debit_indicator} {entry.reversal_indicator}" for entry in statement.entries), sep=" | ")
made = [build_reversal_record(entry, statement, "1", "2026-03-03T00:00:00", "1") for entry in statement.entries[:2]]
print("camt053, reversals made of C and D", *(f"{record['credit_debit']} {record['reversal_indicator']}" for record in made), sep=" | ")
PYTHON
cat >second.py <<'PYTHON'
import mt940

amounts = [int(entry.amount) for entry in mt940.MT940("statement.sta").statements[0].transactions]
print("mt940", *amounts, 1000 + sum(amounts), sep=" | ")
PYTHON
cat >read.mjs <<'JAVASCRIPT'
import { readFileSync } from "node:fs";
import swift from "@centrapay/swift-parser";
import { read } from "mt940-js";
import { Parser } from "mt940js";

const data = readFileSync("statement.sta", "utf8");
const show = (name, amounts) => console.log([name, ...amounts, amounts.reduce((sum, amount) => sum + amount, 1000)].join(" | "));
show("mt940js", new Parser().parse(data)[0].transactions.map((entry) => entry.amount));
const [statement] = await read(Buffer.from(data));
show("mt940-js", statement.transactions.map((entry) => (entry.isCredit ? entry.amount : -entry.amount)));
show("swift-parser", swift.parse({ type: "mt940", data })[0].transactions.map((entry) => Number(entry.amount)));
JAVASCRIPT
{ first/bin/python first.py && second/bin/python second.py && node read.mjs; } | tee seen

cat >wanted <<'TEXT'
mt-940 | 100 | -30 | 100 | 30 | 1200
mt-940, reversal_sign | 100 | -30 | -100 | 30 | 1000
bankfile | 100 | -30 | -100 | 30 | 1000
bankstatementparser | 100 | -30 | -100 | 30 | 1000
camt053-loader-mt940 | 100 | -30 | 100 | -30 | 1140
camt053-loader-mt940 | CRDT False | DBIT False | CRDT True | DBIT True
camt053, reversals made of C and D | DBIT true | CRDT true
mt940 | 100 | -30 | -100 | 30 | 1000
mt940js | 100 | -30 | -100 | 30 | 1000
mt940-js | 100 | -30 | 100 | -30 | 1140
swift-parser | 100 | -30 | -100 | 30 | 1000
TEXT
diff -u wanted seen && echo 'as recorded'
