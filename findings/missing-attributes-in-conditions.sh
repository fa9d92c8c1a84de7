#!/usr/bin/env bash
# A conditional write that compares two attributes of an item, when both are missing, in four emulators of DynamoDB.
#
# An order's item can keep the sum of its refunds beside its total. "Not refunded in full yet" is then the condition
# `refunded <> order_total`. Here the table has no item for the order, so both attributes are missing.
#
# Expected (for `=` and `<>` written down after a first run): a missing attribute equals nothing, not even another missing one, and `<>` is the opposite of `=`. So only the
# writes with `<>` succeed, in all emulators. Seen with the versions below:
#
#   condition                    DynamoDB Local 1.25.1   moto 5.2.5   ministack 1.5.33   dynalite 4.0.0
#   refunded <> :zero            written                 written      written            written
#   refunded <> order_total      written                 refused      refused            refused
#   refunded = order_total       refused                 written      written            written
#   refunded IN (order_total)    refused                 written      written            refused
#   refunded <= order_total      refused                 refused      refused            written
#   refunded < order_total       refused                 refused      refused            refused
#
# DynamoDB Local, from AWS, does as guessed. ExtendDB's pull request 5 reports the same of DynamoDB itself. The three other
# emulators do the opposite with `=` and `<>`, although they agree with it about a constant. So a test against them shows that
# `refunded <> order_total` protects from a refund of an unknown order, and DynamoDB writes an item for it. A step that waits for
# `refunded = order_total` runs too early in the tests. Add `attribute_exists` to such conditions.
#
# usage: bash findings/missing-attributes-in-conditions.sh    (needs Java 17 or newer, Python 3.11 or newer, Node.js 20 or newer,
#        and package registries)
set -euo pipefail
command -v java >/dev/null || { echo 'java is missing (Debian: apt-get install default-jre-headless)' >&2; exit 2; }
folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
cd "$folder"
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1

# The dependencies of moto and ministack exclude each other. Of the Amplify package, only AWS's emulator is used.
for name in moto ministack; do python3 -m venv "$name"; done
moto/bin/pip install --quiet --disable-pip-version-check 'moto[dynamodb]==5.2.5' boto3==1.44.8
ministack/bin/pip install --quiet --disable-pip-version-check ministack==1.5.33
npm install --silent --no-audit --no-fund --ignore-scripts dynalite@4.0.0
tar -xzf "$(npm pack --silent amplify-dynamodb-simulator@2.9.30)" package/emulator

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
local=$(port)
java -Djava.library.path=package/emulator/DynamoDBLocal_lib -jar package/emulator/DynamoDBLocal.jar -inMemory -disableTelemetry -port "$local" >local.log 2>&1 &
servers+=($!)
ministack=$(port)
BIND_HOST=127.0.0.1 GATEWAY_PORT=$ministack ministack/bin/ministack >ministack.log 2>&1 &
servers+=($!)
dynalite=$(port)
node -e 'require("dynalite")({ createTableMs: 0 }).listen(Number(process.argv[1]), "127.0.0.1")' "$dynalite" &
servers+=($!)
for used in "$local" "$ministack" "$dynalite"; do
  until (exec 3<>"/dev/tcp/127.0.0.1/$used") 2>/dev/null; do sleep 0.2; done
done

cat >conditions.py <<'PYTHON'
import sys

import boto3
from moto import mock_aws

CONDITIONS = [
    "refunded <> :zero",
    "refunded <> order_total",
    "refunded = order_total",
    "refunded IN (order_total)",
    "refunded <= order_total",
    "refunded < order_total",
]


def write(client, number, condition):
    values = {":amount": {"N": "12"}} | ({":zero": {"N": "0"}} if ":zero" in condition else {})
    try:
        client.update_item(
            TableName="orders",
            Key={"pk": {"S": f"order-{number}"}},
            UpdateExpression="SET last_refund = :amount",
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
        )
    except client.exceptions.ConditionalCheckFailedException:
        return "refused"
    return "written"


def conditions(name, client):
    client.create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName="orders", WaiterConfig={"Delay": 1})
    seen = [write(client, number, condition) for number, condition in enumerate(CONDITIONS)]
    assert client.scan(TableName="orders")["Count"] == seen.count("written")
    print(name, *seen, sep=" | ")


print("condition", *CONDITIONS, sep=" | ")
for name, port in zip(("local", "ministack", "dynalite"), sys.argv[1:]):
    conditions(name, boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{port}"))
with mock_aws():
    conditions("moto", boto3.client("dynamodb"))
PYTHON
moto/bin/python conditions.py "$local" "$ministack" "$dynalite" | tee seen

cat >wanted <<'TEXT'
condition | refunded <> :zero | refunded <> order_total | refunded = order_total | refunded IN (order_total) | refunded <= order_total | refunded < order_total
local | written | written | refused | refused | refused | refused
ministack | written | refused | written | written | refused | refused
dynalite | written | refused | written | refused | written | refused
moto | written | refused | written | written | refused | refused
TEXT
diff -u wanted seen && echo 'as recorded'
