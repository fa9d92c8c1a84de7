"""ministack, a local AWS emulator, with features that it lacks and this stack needs.

It runs in a process of its own, bound to the loopback interface at the port GATEWAY_PORT. With AUTH=true it checks signatures and
the policies of every role: the functions then run with the permissions that the template gives them.

The added features, as AWS documents them:

1. A rule invokes a function asynchronously: with retries, then its dead-letter queue, which keeps the event unchanged.
2. A stream's event source mapping supports partial batch failures, bisection, limits of retries and age, and a destination in S3.
3. CloudFormation makes archives of a bus.
4. A function that CloudFormation makes has its dead-letter queue, and a generated secret obeys ExcludePunctuation.
5. SQS lists the redrives of a dead-letter queue: none, because the emulator cannot start one.
6. CloudFormation makes an alarm on an expression of several metrics. The emulator watches only the first of them.
"""

import contextlib
import importlib.metadata
import json
import logging
import os
import string
import sys
import time
import uuid

VERSION = "1.5.33"

if importlib.metadata.version("ministack") != VERSION:
    sys.exit(f"error: these additions were written for ministack {VERSION}; check whether another version needs them")

os.environ["BIND_HOST"] = "127.0.0.1"
ENDPOINT = os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}"

import boto3  # noqa: E402
from ministack import app  # noqa: E402
from ministack.core import iam_actions  # noqa: E402
from ministack.core.lambda_runtime import execution_credentials  # noqa: E402
from ministack.services import dynamodb, eventbridge, lambda_svc, sqs  # noqa: E402
from ministack.services.cloudformation import provisioners  # noqa: E402

log = logging.getLogger("emulator")
# The seconds between two attempts of a stream's batch. A full second would be long if eleven attempts have to fail.
PAUSE = 0.2


def as_role(service, function):
    """A client with the permissions of the function's role, which Lambda uses for its own writes."""
    config = function.get("config") or function
    credentials = execution_credentials(config)
    return boto3.client(
        service,
        endpoint_url=ENDPOINT,
        region_name=config["FunctionArn"].split(":")[3],
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=credentials["AWS_SESSION_TOKEN"],
    )


def name_of(arn):
    return arn.split(":")[-1]


# ----- 1. From a rule to a function ----------------------------------------------------------------------------------


def invoke_asynchronously(arn, payload):
    function, config, name = lambda_svc._get_func_record_for_ref(arn)
    if not function or not config:
        log.warning("a rule's target %s does not exist", name)
        return
    lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(function, config), json.loads(payload))


route_failure = lambda_svc._route_async_failure


def keep_failed_event(target, name, event, result):
    """A dead-letter queue gets the event, with the reason in attributes. A destination gets a report."""
    function, config, _ = lambda_svc._get_func_record_for_ref(name)
    if ((config or {}).get("DeadLetterConfig") or {}).get("TargetArn") != target or ":sqs:" not in target:
        route_failure(target, name, event, result)
        return
    error = result.get("body") if isinstance(result.get("body"), dict) else {}
    message = str(error.get("errorMessage", "?"))
    attributes = {"RequestID": str(uuid.uuid4()), "ErrorCode": "200", "ErrorMessage": message}
    as_role("sqs", function).send_message(
        QueueUrl=queue_url(target),
        MessageBody=json.dumps(event),
        MessageAttributes={key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()},
    )


def queue_url(arn):
    *_, account, name = arn.split(":")
    return f"{ENDPOINT}/{account}/{name}"


# ----- 2. From a stream to a function --------------------------------------------------------------------------------


class Reader:
    """The state of one mapping: its failed attempts at the present position, and its window."""

    readers = {}

    def __init__(self):
        self.attempts = 0
        # The maximum number of records after a bisection. None: the batch size of the mapping.
        self.window = None


@contextlib.contextmanager
def scope(account, region):
    tokens = lambda_svc._request_account_id.set(account), lambda_svc._request_region.set(region)
    try:
        yield
    finally:
        lambda_svc._request_account_id.reset(tokens[0])
        lambda_svc._request_region.reset(tokens[1])


def poll_streams():
    """Polls every mapping of a table's stream once; returns whether any of them made progress."""
    moved = False
    for account, region, mapping in lambda_svc._iter_all_esms():
        if ":dynamodb:" in mapping.get("EventSourceArn", "") and mapping.get("Enabled", True):
            with scope(account, region):
                moved = poll_stream(mapping) or moved
    return moved


def poll_stream(mapping):
    stream, key = mapping["EventSourceArn"], mapping["UUID"]
    table = stream.split(":table/")[1].split("/stream/")[0]
    function, _ = lambda_svc._get_func_record_for_qualifier(mapping["FunctionName"], mapping.get("Qualifier"))
    if function is None or (dynamodb._tables.get(table) or {}).get("LatestStreamArn") != stream:
        return False
    if lambda_svc._esm_backoff_until.get(key, 0) > time.time():
        return False
    positions = lambda_svc._dynamodb_stream_positions
    oldest, newest = dynamodb.stream_start_position(table), dynamodb.stream_end_position(table)
    begin = oldest if mapping.get("StartingPosition") == "TRIM_HORIZON" else newest
    position = positions[key] = max(positions.get(key, begin), oldest)

    reader = Reader.readers.setdefault(key, Reader())
    size = int(mapping.get("BatchSize", 100))
    records = dynamodb.stream_records_since(table, position, min(size, reader.window or size))
    if not records:
        return False
    wanted = lambda_svc._apply_filter_criteria(records, mapping)
    result = lambda_svc._execute_function(function, {"Records": wanted}) if wanted else {}
    done = processed(records, result, mapping)
    positions[key] = position + done
    if done == len(records):
        reader.attempts, reader.window = 0, None
        return True
    if done > 0:
        reader.attempts = 0
        return True

    # The first record failed.
    if mapping.get("BisectBatchOnFunctionError") and len(records) > 1:
        reader.window = len(records) // 2
        return True
    reader.attempts += 1
    reason = exhausted(mapping, reader, records)
    if reason:
        keep_failed_records(mapping, function, records, result, reason)
        positions[key] = position + len(records)
        reader.attempts, reader.window = 0, None
    else:
        lambda_svc._esm_backoff_until[key] = time.time() + PAUSE
    return bool(reason)


def processed(records, result, mapping):
    """The number of records, from the first on, that need no further attempt."""
    if result.get("error"):
        log.warning("%s failed: %s", mapping["FunctionName"], result.get("body"))
        return 0
    answer = result.get("body")
    if "ReportBatchItemFailures" not in (mapping.get("FunctionResponseTypes") or []) or not answer:
        return len(records)
    answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
    failed = [failure["itemIdentifier"] for failure in answer.get("batchItemFailures") or []]
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    # An unknown identifier counts as a failure of the whole batch.
    return min((numbers.index(number) if number in numbers else 0 for number in failed), default=len(records))


def exhausted(mapping, reader, records):
    """The reason why there is no further attempt; None if there is one."""
    # In both settings, -1 means no limit.
    retries, age = int(mapping.get("MaximumRetryAttempts", -1)), int(mapping.get("MaximumRecordAgeInSeconds", -1))
    if 0 <= retries < reader.attempts:
        return "RetryAttemptsExhausted"
    if 0 <= age < time.time() - float(records[0]["dynamodb"]["ApproximateCreationDateTime"]):
        return "RecordAgeExceeded"
    return None


def keep_failed_records(mapping, function, records, result, reason):
    """A bucket gets a report that contains the records. Other destinations get the report of ministack."""
    stream = mapping["EventSourceArn"]
    destination = ((mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination") or ""
    if not destination.startswith("arn:aws:s3:::"):
        lambda_svc._send_ddb_stream_failure_record(mapping, function, records, stream, result, reason)
        return
    now = time.gmtime()
    first, last = records[0]["dynamodb"], records[-1]["dynamodb"]
    report = {
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "functionArn": mapping["FunctionArn"],
            "condition": reason,
            "approximateInvokeCount": Reader.readers[mapping["UUID"]].attempts,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", now),
        "DDBStreamBatchInfo": {
            "shardId": "shardId-00000000000000000000-00000000",
            "startSequenceNumber": first["SequenceNumber"],
            "endSequenceNumber": last["SequenceNumber"],
            "batchSize": len(records),
            "streamArn": stream,
        },
        "payload": json.dumps({"Records": records}, default=str),
    }
    stamp = time.strftime("%Y-%m-%dT%H.%M.%S", now)
    path = f"aws/lambda/{mapping['UUID']}/shardId-0/{time.strftime('%Y/%m/%d', now)}/{stamp}-{uuid.uuid4()}"
    as_role("s3", function).put_object(Bucket=name_of(destination), Key=path, Body=json.dumps(report))


# ----- 3., 4. and 6. CloudFormation ----------------------------------------------------------------------------------


def answered(response):
    status, _, body = response
    if status >= 300:
        raise ValueError(body.decode() if isinstance(body, bytes) else str(body))
    return json.loads(body or b"{}")


def archive_of(name, properties):
    return {
        "ArchiveName": name,
        "EventSourceArn": properties["SourceArn"],
        "Description": properties.get("Description", ""),
        "EventPattern": json.dumps(properties["EventPattern"]) if properties.get("EventPattern") else "",
        "RetentionDays": int(properties.get("RetentionDays") or 0),
    }


def create_archive(logical_id, properties, stack):
    name = properties.get("ArchiveName") or f"{stack}-{logical_id}-{uuid.uuid4().hex[:8]}"
    made = answered(eventbridge._create_archive(archive_of(name, properties)))
    return name, {"Arn": made["ArchiveArn"], "ArchiveName": name}


def update_archive(name, _old, properties, _stack):
    made = answered(eventbridge._update_archive(archive_of(name, properties)))
    return name, {"Arn": made["ArchiveArn"], "ArchiveName": name}


def delete_archive(name, _properties):
    eventbridge._delete_archive({"ArchiveName": name})


def with_dead_letters(change):
    """Wraps the creation or the update of a function, so that it also sets the dead-letter queue."""

    def changed(*arguments):
        made = change(*arguments)
        name = made[0] if isinstance(made, tuple) else arguments[0]
        # The new properties are the last dictionary among the arguments: the second of a creation, the third of an update.
        properties = [argument for argument in arguments if isinstance(argument, dict)][-1]
        function, _, _ = lambda_svc._get_func_record_for_ref(name)
        function["config"]["DeadLetterConfig"] = properties.get("DeadLetterConfig") or {}
        return made

    return changed


secret_string = provisioners._sm_secret_string


def secret_without_punctuation(properties):
    generate = dict(properties.get("GenerateSecretString") or {})
    if str(generate.get("ExcludePunctuation")).lower() == "true":
        generate["ExcludeCharacters"] = generate.get("ExcludeCharacters", "") + string.punctuation
        properties = {**properties, "GenerateSecretString": generate}
    return secret_string(properties)


def with_first_metric(change):
    """Wraps the creation or the update of an alarm, so that it gets one metric instead of an expression."""

    def simple(properties):
        parts = [part["MetricStat"] for part in properties.get("Metrics", []) if "MetricStat" in part]
        if not parts:
            return properties
        rest = {name: value for name, value in properties.items() if name != "Metrics"}
        return {**rest, **parts[0]["Metric"], "Period": parts[0]["Period"], "Statistic": parts[0]["Stat"]}

    def changed(*arguments):
        return change(*(simple(argument) if isinstance(argument, dict) else argument for argument in arguments))

    return changed


# ----- 5. Redrives ---------------------------------------------------------------------------------------------------


def list_redrives(request, _url):
    sqs._get_q(name_of(request["SourceArn"]), "sqs:ListMessageMoveTasks")
    return {"Results": []}


resource_of = iam_actions.extract_resource_arn


def resource_as_named(service, method, path, headers, body, *more):
    """The resource whose permissions are checked. Redrives name their queue by its ARN, not by its URL. `Ref` of a secret is its name
    here, and its ARN on AWS, so policies and requests contain the name."""
    if service == "sqs" and b'"SourceArn"' in (body or b""):
        return json.loads(body)["SourceArn"]
    if service == "secretsmanager":
        return json.loads(body or b"{}").get("SecretId", "*")
    return resource_of(service, method, path, headers, body, *more)


def main():
    eventbridge._dispatch_to_lambda = invoke_asynchronously
    lambda_svc._route_async_failure = keep_failed_event
    lambda_svc._poll_dynamodb_streams = poll_streams
    sqs._HANDLERS["ListMessageMoveTasks"] = list_redrives
    iam_actions.extract_resource_arn = resource_as_named
    provisioners._sm_secret_string = secret_without_punctuation
    archive = {"create": create_archive, "update": update_archive, "delete": delete_archive}
    provisioners._RESOURCE_HANDLERS["AWS::Events::Archive"] = archive
    function = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    alarm = provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::Alarm"]
    for change in "create", "update":
        function[change] = with_dead_letters(function[change])
        if change in alarm:
            alarm[change] = with_first_metric(alarm[change])
    app.main()


if __name__ == "__main__":
    main()
