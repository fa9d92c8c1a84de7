#!/usr/bin/env bash
# The last page of a DynamoDB query that is exactly full, in three emulators.
#
# DynamoDB stops after `Limit` items without looking for another one, so a full page has a `LastEvaluatedKey` even if it is the
# last, and the next page is empty. AWS documents it: "If LastEvaluatedKey is not empty, it does not necessarily mean that there is
# more data in the result set" ("Paginating table query results in DynamoDB", Amazon DynamoDB Developer Guide).
#
# Guessed: all emulators do the same. Seen for three items and `Limit` 3:
#
#   emulator           LastEvaluatedKey   the next page
#   moto 5.2.5         none
#   ministack 1.5.33   the third item     empty
#   dynalite 4.0.0     the third item     empty
#
# So a program that is tested only with moto never sees an empty page, and never a cursor that leads to one. A button "next page"
# that moto's tests hide is shown on DynamoDB.
#
# usage: bash findings/last-page-in-emulators.sh    (needs Python 3.11 or newer, Node.js 20 or newer, and package registries)
set -euo pipefail
folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
cd "$folder"
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1

# Their dependencies exclude each other.
for name in moto ministack; do python3 -m venv "$name"; done
moto/bin/pip install --quiet --disable-pip-version-check 'moto[dynamodb]==5.2.5' boto3==1.44.8
ministack/bin/pip install --quiet --disable-pip-version-check ministack==1.5.33
npm install --silent --no-audit --no-fund --ignore-scripts dynalite@4.0.0

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
ministack=$(port)
BIND_HOST=127.0.0.1 GATEWAY_PORT=$ministack ministack/bin/ministack >ministack.log 2>&1 &
servers+=($!)
dynalite=$(port)
node -e 'require("dynalite")({ createTableMs: 0 }).listen(Number(process.argv[1]), "127.0.0.1")' "$dynalite" &
servers+=($!)
for used in "$ministack" "$dynalite"; do
  until (exec 3<>"/dev/tcp/127.0.0.1/$used") 2>/dev/null; do sleep 0.2; done
done

cat >pages.py <<'PYTHON'
import sys

import boto3
from moto import mock_aws


def pages(name, client):
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    client.create_table(
        TableName="referrals",
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName="referrals", WaiterConfig={"Delay": 1})
    for number in "123":
        client.put_item(TableName="referrals", Item={"pk": {"S": "ada"}, "sk": {"S": number}})
    query = {"TableName": "referrals", "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": "ada"}}}
    page = client.query(**query, Limit=3)
    last = page.get("LastEvaluatedKey")
    after = client.query(**query, Limit=3, ExclusiveStartKey=last)["Count"] if last else "no page"
    print(name, page["Count"], last["sk"]["S"] if last else "none", after, sep=" | ")


with mock_aws():
    pages("moto", boto3.client("dynamodb"))
for name, port in zip(("ministack", "dynalite"), sys.argv[1:]):
    pages(name, boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{port}"))
PYTHON
moto/bin/python pages.py "$ministack" "$dynalite" | tee seen

cat >wanted <<'TEXT'
moto | 3 | none | no page
ministack | 3 | 3 | 0
dynalite | 3 | 3 | 0
TEXT
diff -u wanted seen && echo 'as recorded'
