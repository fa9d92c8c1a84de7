"""Called with messages of the queue of a reward type: deliver, each reward once, each message separately."""

import json
import time

import urllib3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from model import input, store
from model.digest import signature
from model.idempotency import invoked, once
from model.referral import answered, referee, reward_view
from model.settings import ENDPOINTS

logger = Logger(service="delivery")
processor = BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)
http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=1, read=5), retries=False)

RETRIED = {408, 409, 425, 429}


def process(record: SQSRecord) -> None:
    logger.info(deliver(reward_id=record.json_body["detail"]["reward_id"]))


@once("reward_id")
def deliver(reward_id: str) -> str:
    referee_id, side = reward_id.split(":")
    referral = store.referral(referee_id)
    if referral is None:
        raise LookupError("there is no such referral")
    reward = reward_view(referral, side) if "rewards" in referral else None
    if reward is None or reward["status"] != "issued":
        return "nothing_to_deliver"
    facts = send(referral, reward)
    return store.apply(referral, lambda item: answered(item, side, facts))


def send(referral: dict, reward: dict) -> dict:
    endpoint = ENDPOINTS[reward["type"]]
    if not endpoint:
        raise LookupError(f"no endpoint is configured for {reward['type']}")
    fields = ("side", "user_id", "type", "amount", "currency", "issued_at")
    identifier = reward["reward_id"]
    document = {"reward_id": identifier, "referee_id": referee(referral)} | {name: reward[name] for name in fields}
    body, seconds = json.dumps(document), int(time.time())
    headers = {
        "content-type": "application/json",
        "idempotency-key": identifier,
        "webhook-id": identifier,
        "webhook-timestamp": str(seconds),
        "webhook-signature": signature(identifier, seconds, body),
    }
    response = http.request("POST", endpoint, body=body, headers=headers, redirect=False)
    if 200 <= response.status < 300:
        return {"delivered_at": input.now()}
    if response.status >= 500 or response.status in RETRIED:
        raise ConnectionError(f"{response.status}: will be retried")
    text = response.data[:160].decode(errors="replace")
    return {"failed_at": input.now(), "failure": f"{response.status}: {text}"}


def handler(event: dict, context: LambdaContext) -> dict:
    invoked(context)
    return process_partial_response(event=event, record_handler=process, processor=processor, context=context)
