"""The table: every read and every conditional write of it."""

from collections.abc import Callable
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config
from botocore.exceptions import ClientError

from .code import canonical
from .referral import Unchanged
from .settings import PROGRAM, TABLE_NAME

CONFIG = Config(connect_timeout=0.5, read_timeout=1, tcp_keepalive=True, retries={"mode": "standard"})
client = boto3.client("dynamodb", config=CONFIG)

# The maximum number of decisions. After that many conflicting writes, the sender of the event retries.
_DECISIONS = 5
_ONCE = {"ConditionExpression": "attribute_not_exists(pk)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}

_serializer, _deserializer = TypeSerializer(), TypeDeserializer()


def _written(item: dict) -> dict:
    return {name: _serializer.serialize(value) for name, value in item.items()}


def read(item: dict) -> dict:
    return {name: _deserializer.deserialize(value) for name, value in item.items()}


def _key(pk: str, sk: str) -> dict:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _code_key(code: str) -> dict:
    return _key(f"CODE#{canonical(code)}", "CODE")


def _account_key(user: str) -> dict:
    return _key(f"USER#{user}", "ACCOUNT")


def _referral_key(referee: str) -> dict:
    return _key(f"REFEREE#{referee}", "REFERRAL")


def _get(key: dict) -> dict | None:
    item = client.get_item(TableName=TABLE_NAME, Key=key, ConsistentRead=True).get("Item")
    return item and read(item)


def _get_all(keys: list[dict]) -> list[dict | None]:
    unique = {(key["pk"]["S"], key["sk"]["S"]): key for key in keys}
    ask = {TABLE_NAME: {"Keys": list(unique.values()), "ConsistentRead": True}}
    found: dict[Any, dict] = {}
    while ask:
        answer = client.batch_get_item(RequestItems=ask)
        for item in answer["Responses"].get(TABLE_NAME, []):
            found[item["pk"]["S"], item["sk"]["S"]] = read(item)
        ask = answer.get("UnprocessedKeys")
    return [found.get((key["pk"]["S"], key["sk"]["S"])) for key in keys]


def _is(error: ClientError, name: str) -> bool:
    return error.response["Error"]["Code"] == name


def code(wanted: str) -> dict | None:
    return _get(_code_key(wanted))


def referral(referee: str) -> dict | None:
    return _get(_referral_key(referee))


def _remember(user: str, device: str) -> dict:
    return {
        "TableName": TABLE_NAME,
        "Key": _account_key(user),
        "UpdateExpression": "ADD devices :devices",
        "ExpressionAttributeValues": {":devices": {"SS": [device]}},
    }


def mint(owned: dict, device: str | None) -> tuple[str, dict | None]:
    """Writes a code and its owner's item, or returns what exists: the owner's live code, or that another user has the code."""
    item = _code_key(owned["code"]) | _written(owned)
    owner = _key(f"USER#{owned['owner']}", f"CODE#{PROGRAM}") | {"code": {"S": owned["code"]}}
    writes: list[dict] = [{"Put": {"TableName": TABLE_NAME, "Item": put} | _ONCE} for put in (item, owner)]
    if device:
        writes.append({"Update": _remember(owned["owner"], device)})
    try:
        client.transact_write_items(TransactItems=writes)
    except ClientError as error:
        if not _is(error, "TransactionCanceledException"):
            raise
        taken, has_one, *_ = error.response["CancellationReasons"]
        if has_one["Code"] == "ConditionalCheckFailed":
            if device:
                client.update_item(**_remember(owned["owner"], device))
            return "owned", code(has_one["Item"]["code"]["S"])
        if taken["Code"] == "ConditionalCheckFailed":
            return "taken", None
        raise
    return "minted", owned


def attribution_facts(owned: dict, referee: str) -> list[dict | None]:
    """Reads the evidence for an attribution: the code, its owner's account and own referral, and the referee's referral."""
    owner = owned["owner"]
    return _get_all([_code_key(owned["code"]), _account_key(owner), _referral_key(owner), _referral_key(referee)])


def issue_facts(referrer: str, referee: str) -> dict:
    """Reads all evidence for an issue in one batch."""
    found = _get_all([_account_key(referrer), _account_key(referee), _referral_key(referrer)])
    return {name: item for name, item in zip(("referrer", "referee", "referrers_own"), found, strict=True) if item}


def attribute(item: dict) -> dict | None:
    """Writes a new referral, or returns the existing one."""
    try:
        client.put_item(TableName=TABLE_NAME, Item=_written(item), **_ONCE)
    except ClientError as error:
        if not _is(error, "ConditionalCheckFailedException"):
            raise
        return read(error.response["Item"])
    return None


def apply(item: dict, decide: Callable[[dict], dict]) -> str:
    """Decides on a referral and writes the change, on the condition that the referral is still as it was read.

    If it is not, decides again from the stored one. Returns the outcome.
    """
    for _ in range(_DECISIONS):
        try:
            change = decide(item)
        except Unchanged as reason:
            return str(reason)
        found = _write(item, change)
        if found is None:
            return "written"
        item = found
    raise RuntimeError("too many conflicting writes")


def _write(item: dict, change: dict) -> dict | None:
    change = change | {"rev": item["rev"] + 1}
    kept = {name: value for name, value in change.items() if value is not None}
    gone = [name for name, value in change.items() if value is None]
    expression = "SET " + ", ".join(f"#{name} = :{name}" for name in kept)
    if gone:
        expression += " REMOVE " + ", ".join(f"#{name}" for name in gone)
    values = {f":{name}": value for name, value in kept.items()}
    try:
        client.update_item(
            TableName=TABLE_NAME,
            Key=_key(item["pk"], item["sk"]),
            UpdateExpression=expression,
            ConditionExpression="#rev = :was_rev AND #status = :was_status",
            ExpressionAttributeNames={f"#{name}": name for name in (*change, "status")},
            ExpressionAttributeValues=_written(values | {":was_rev": item["rev"], ":was_status": item["status"]}),
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        if not _is(error, "ConditionalCheckFailedException") or "Item" not in error.response:
            raise
        return read(error.response["Item"])
    return None
