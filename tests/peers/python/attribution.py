"""Called by API Gateway: mint and attribute, each stored by its request. A refusal is raised, so it is not stored."""

import json
from http import HTTPStatus

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from model import input, sign_up
from model.idempotency import invoked, once
from model.problem import Problem

logger = Logger(service="attribution")
app = APIGatewayHttpResolver()


@once("wanted")
def mint(wanted: dict) -> list:
    return list(sign_up.mint(wanted["user"], wanted["body"]))


@once("wanted")
def attribute(wanted: dict) -> list:
    return list(sign_up.attribute(wanted))


@app.put("/v1/users/<user_id>/code")
def put_code(user_id: str) -> Response:
    return answer(*mint(wanted={"user": user_id, "body": body()}))


@app.post("/v1/referrals")
def post_referral() -> Response:
    return answer(*attribute(wanted=body()))


def body() -> dict:
    try:
        return input.body(app.current_event.json_body if app.current_event.body else None)
    except json.JSONDecodeError as problem:
        raise input.invalid("the body is not JSON") from problem


def answer(status: int, document: dict) -> Response:
    logger.info("answered", status=status)
    return Response(status, "application/json", json.dumps(document))


@app.exception_handler(Problem)
def refused(problem: Problem) -> Response:
    logger.info("refused", reason=problem.reason)
    return Response(problem.status.value, "application/problem+json", json.dumps(problem.document()))


@app.exception_handler(Exception)
def failed(error: Exception) -> Response:
    logger.error("failed", exc_info=error)
    detail = "the service cannot answer right now; try again"
    problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail)
    headers = {"Retry-After": "1"}
    return Response(503, "application/problem+json", json.dumps(problem.document()), headers)


def handler(event: dict, context: LambdaContext) -> dict:
    invoked(context)
    return app.resolve(event, context)
