"""Idempotency with Powertools: an answer is stored for an hour in a table of its own, and returned for a repeated request."""

from collections.abc import Callable

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.typing import LambdaContext

from .settings import IDEMPOTENCY_TABLE_NAME
from .store import client

_layer = DynamoDBPersistenceLayer(table_name=IDEMPOTENCY_TABLE_NAME, boto3_client=client)
_config = IdempotencyConfig(raise_on_no_idempotency_key=True)


def once(argument: str) -> Callable:
    """Makes a function idempotent, with this argument as the key."""
    return idempotent_function(data_keyword_argument=argument, persistence_store=_layer, config=_config)


def invoked(context: LambdaContext) -> None:
    """Passes on the deadline of the invocation, after which an entry in progress is void."""
    _config.register_lambda_context(context)
