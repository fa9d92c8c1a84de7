"""Idempotency by Powertools: what was answered once is kept for an hour in a table of its own, and answered again."""

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
    """The function made idempotent under what it is given as this argument."""
    return idempotent_function(data_keyword_argument=argument, persistence_store=_layer, config=_config)


def invoked(context: LambdaContext) -> None:
    """How long what is in progress may take."""
    _config.register_lambda_context(context)
