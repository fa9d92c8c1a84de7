"""Called with stream records: announce and issue, each record once."""

import json
from datetime import datetime

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from model import input, store
from model.idempotency import invoked, once
from model.referral import announcements, issued, referee, referrer
from model.settings import BUS_NAME

logger = Logger(service="rewards")
processor = BatchProcessor(EventType.DynamoDBStreams, raise_on_entire_batch_failure=False)
bus = boto3.client("events", config=store.CONFIG)


def process(record: DynamoDBRecord) -> None:
    logger.info(handle(event_id=record.event_id, change=record.raw_event["dynamodb"]))


@once("event_id")
def handle(event_id: str, change: dict) -> str:
    if change["Keys"]["sk"]["S"] != "REFERRAL" or not change.get("NewImage"):
        return "not_a_referral"
    before, after = change.get("OldImage"), store.read(change["NewImage"])
    publish(announcements(before and store.read(before), after))
    if after["status"] != "converted":
        return "announced"
    now = input.now()

    def decide(item: dict) -> dict:
        facts = store.issue_facts(referrer(item), referee(item)) if item["status"] == "converted" else {}
        return issued(item, facts, now)

    return store.apply(after, decide)


def publish(events: list[tuple[str, dict]]) -> None:
    for at in range(0, len(events), 10):
        entries = [
            {
                "EventBusName": BUS_NAME,
                "Source": "referrals",
                "DetailType": kind,
                "Time": datetime.fromisoformat(detail["occurred_at"]),
                "Detail": json.dumps(detail),
            }
            for kind, detail in events[at : at + 10]
        ]
        if bus.put_events(Entries=entries)["FailedEntryCount"] > 0:
            raise RuntimeError("the bus did not accept every event")


def handler(event: dict, context: LambdaContext) -> dict:
    invoked(context)
    return process_partial_response(event=event, record_handler=process, processor=processor, context=context)
