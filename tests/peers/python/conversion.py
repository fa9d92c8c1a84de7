"""Called by EventBridge: convert, each order once.

An order of a user without a referral is not stored, because it is delivered again.
"""

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from model import input, store
from model.idempotency import invoked, once
from model.referral import converted

logger = Logger(service="conversion")


class NotReferred(Exception):
    """The user has no referral, or not yet."""


def order_of(event: dict) -> dict:
    """The order in an event. An unreadable event is an error, and ends in the dead-letter queue."""
    detail = event["detail"]
    return {
        "event": event["detail-type"],
        "order": input.identifier("order_id", detail.get("order_id")),
        "amount": input.amount("amount", detail.get("amount")),
        "currency": input.currency("currency", detail.get("currency")),
    }


@once("order")
def convert(order: dict, user: str) -> str:
    referral = store.referral(user)
    if referral is None:
        raise NotReferred
    now = input.now()
    return store.apply(referral, lambda item: converted(item, order, now))


def handler(event: dict, context: LambdaContext) -> None:
    invoked(context)
    user = input.identifier("user_id", event["detail"].get("user_id"))
    try:
        logger.info(convert(order=order_of(event), user=user))
    except NotReferred:
        logger.info("not_referred")
