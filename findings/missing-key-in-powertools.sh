#!/usr/bin/env bash
# AWS Lambda Powertools' idempotency, when the configured key is missing in the event.
#
# A reward endpoint on Lambda takes the key from the header `Idempotency-Key`. API Gateway's HTTP APIs write names of headers in
# lower case, its REST APIs keep the caller's spelling, and JMESPath compares it exactly. So the same code does not find the key
# any more when the function moves from one to the other.
#
# Guessed: an error, in both languages. Seen, for two calls with different keys:
#
#   path of the key                                   Python 3.37.0            TypeScript 2.35.0
#   headers."idempotency-key"                         both run, a warning      both run
#   [headers."idempotency-key"]                       both run, a warning      only the first runs
#   [headers."idempotency-key", headers.host]         only the first runs      only the first runs
#
# "both run" also means that a repeated call runs again: a reward is booked twice. "only the first runs" means that the second
# call is answered with the first call's result: a reward is never booked. Set `raise_on_no_idempotency_key` or
# `throwOnNoIdempotencyKey`, which helps unless a part of the key was found.
#
# usage: bash findings/missing-key-in-powertools.sh    (needs Python 3.11 or newer, Node.js 20 or newer, and package registries)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export AWS_LAMBDA_FUNCTION_NAME=book AWS_DEFAULT_REGION=us-east-1

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aws-lambda-powertools==3.37.0 boto3==1.44.8 redis==8.1.0 fakeredis==2.41.0
npm install --silent --no-audit --no-fund --ignore-scripts @aws-lambda-powertools/idempotency@2.35.0

cat >book.py <<'PYTHON'
import warnings

import fakeredis
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent
from aws_lambda_powertools.utilities.idempotency.persistence.cache import CachePersistenceLayer


class Context:
    def get_remaining_time_in_millis(self):
        return 5000


for path in ['headers."idempotency-key"', '[headers."idempotency-key"]', '[headers."idempotency-key", headers.host]']:
    booked, store = [], fakeredis.FakeRedis(server=fakeredis.FakeServer())

    @idempotent(persistence_store=CachePersistenceLayer(client=store), config=IdempotencyConfig(event_key_jmespath=path))
    def book(event, _):
        booked.append(event["reward"])

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for reward in ("a", "b"):
            book({"reward": reward, "headers": {"host": "rewards", "Idempotency-Key": reward}}, Context())
    warned = any("No idempotency key" in str(warning.message) for warning in seen)
    print("python", path, "".join(booked), "warned" if warned else "silent", sep=" | ")
PYTHON
cat >book.mjs <<'JAVASCRIPT'
import { IdempotencyConfig, makeIdempotent } from "@aws-lambda-powertools/idempotency";
import { CachePersistenceLayer } from "@aws-lambda-powertools/idempotency/cache";

const context = { functionName: "book", getRemainingTimeInMillis: () => 5000 };
let warned;
console.warn = () => (warned = true);

for (const path of ['headers."idempotency-key"', '[headers."idempotency-key"]', '[headers."idempotency-key", headers.host]']) {
  const [store, booked] = [new Map(), []];
  const client = {
    get: async (key) => store.get(key) ?? null,
    set: async (key, value, options) => (options?.condition === "NX" && store.has(key)) || (options?.NX && store.has(key)) ? null : (store.set(key, value), "OK"),
    del: async (keys) => [keys].flat().forEach((key) => store.delete(key)),
  };
  const book = makeIdempotent(async (event) => void booked.push(event.reward), {
    persistenceStore: new CachePersistenceLayer({ client }),
    config: new IdempotencyConfig({ eventKeyJmesPath: path }),
  });
  warned = false;
  for (const reward of ["a", "b"]) await book({ reward, headers: { host: "rewards", "Idempotency-Key": reward } }, context);
  console.log(["typescript", path, booked.join(""), warned ? "warned" : "silent"].join(" | "));
}
JAVASCRIPT
{ venv/bin/python book.py && node book.mjs; } | tee seen

cat >wanted <<'TEXT'
python | headers."idempotency-key" | ab | warned
python | [headers."idempotency-key"] | ab | warned
python | [headers."idempotency-key", headers.host] | a | silent
typescript | headers."idempotency-key" | ab | silent
typescript | [headers."idempotency-key"] | a | warned
typescript | [headers."idempotency-key", headers.host] | a | silent
TEXT
diff -u wanted seen && echo 'as recorded'
