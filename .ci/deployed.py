"""Deploys the built stack to the emulator, as a user would deploy it to AWS, and tests it through the stack's outputs.

The emulator checks signatures and the permissions of every role. This file simulates the product (a signed caller of the API
and the bus) and the credit subsystem.
"""

import argparse
import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import urllib.parse

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions

from support import Failed, Process, call, free_port, mortal, until

REGION, STACK = "us-east-1", "referrals"
# Long enough for a cancellation, also on a slow machine, and short enough to wait for.
HOLD = 15


class Subsystem:
    """Accepts rewards, as the company's credit system would, and stores every call."""

    def __init__(self):
        self.calls = calls = []
        # The referees whose rewards it refuses.
        self.refused = refused = set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                calls.append((dict((name.lower(), value) for name, value in self.headers.items()), body))
                self.send_response(400 if json.loads(body)["referee_id"] in refused else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/credits"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, referee):
        """The calls about one referee's referral."""
        return [(headers, body) for headers, body in self.calls if json.loads(body)["referee_id"] == referee]


class Emulator:
    """ministack, in a process of its own."""

    def __init__(self, work):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        temporary = work / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        env = {
            **os.environ,
            "GATEWAY_PORT": str(self.port),
            "AUTH": "true",
            "TMPDIR": str(temporary),
            "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.2",
        }
        command = [sys.executable, str(pathlib.Path(__file__).with_name("emulator.py"))]
        self.process = Process(command, work / "emulator.log", env=env)
        try:
            until("the emulator's start", 60, self.answers, self.process)
        except Failed:
            self.process.end()
            raise

    def answers(self):
        try:
            return call("GET", f"{self.url}/_ministack/health")[0] == 200
        except OSError:
            return False

    def client(self, service, keys=("test", "test")):
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, aws_access_key_id=keys[0], aws_secret_access_key=keys[1]
        )

    def sam(self, name, *arguments, work):
        """Runs an unmodified `sam`. Only the SDK's own setting points it to the emulator."""
        started, log = time.monotonic(), work / f"{name}.log"
        env = {**os.environ, "AWS_ENDPOINT_URL": self.url}
        with open(log, "wb") as file:
            try:
                done = subprocess.run(["sam", *arguments], stdout=file, stderr=subprocess.STDOUT, env=env, timeout=240)
                problem = done.returncode and f"ended with {done.returncode}"
            except subprocess.TimeoutExpired:
                problem = "stopped after 240 s"
        if problem:
            raise Failed(f"sam {arguments[0]}: {problem}\n{log.read_text(errors='replace')[-6000:]}")
        print(f"sam {arguments[0]}: {time.monotonic() - started:.0f} s", flush=True)


class Stack:
    """The deployed stack and its outputs."""

    def __init__(self, emulator):
        self.emulator = emulator
        found = emulator.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
        self.status = found["StackStatus"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    def __getitem__(self, name):
        if name not in self.outputs:
            raise Failed(f"the stack has no output {name}")
        return self.outputs[name]

    def messages(self, output):
        """The messages in the queue of this output. They stay there."""
        answer = self.emulator.client("sqs").receive_message(
            QueueUrl=self[output], MaxNumberOfMessages=10, VisibilityTimeout=0, WaitTimeSeconds=0
        )
        return [message["Body"] for message in answer.get("Messages", [])]

    def objects(self):
        """The contents of the bucket of failed records."""
        bucket, s3 = self["FailedRecordsBucketName"], self.emulator.client("s3")
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
        return [json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys]


class Product:
    """The product's server: it signs its API requests and publishes events on the bus."""

    def __init__(self, stack, keys, api="ApiUrl"):
        self.stack, self.keys, self.api = stack, keys, stack[api]
        self.events = stack.emulator.client("events", keys)

    def ask(self, method, path, body=None, headers=None, signed=True):
        """Sends a request to the API; returns status, headers and body of the answer."""
        url = urllib.parse.urlsplit(self.api)
        data = b"" if body is None else json.dumps(body).encode()
        # The API's host name cannot be resolved here, so the request goes to the emulator's address.
        headers = {"Host": url.netloc, "Content-Type": "application/json", **(headers or {})}
        if signed:
            request = botocore.awsrequest.AWSRequest(method, self.api + path, headers=headers, data=data)
            credentials = botocore.credentials.Credentials(*self.keys)
            botocore.auth.SigV4Auth(credentials, "execute-api", REGION).add_auth(request)
            headers = dict(request.headers)
        status, headers, text = call(method, self.stack.emulator.url + path, data or None, headers)
        return status, headers, json.loads(text) if text.startswith("{") else text

    def referral(self, referee):
        status, _, body = self.ask("GET", f"/v1/referrals/{referee}")
        return body if status == 200 else {}

    def publish(self, kind, **detail):
        """Publishes an event on the bus at BusName."""
        entry = {"EventBusName": self.stack["BusName"], "Source": "shop", "DetailType": kind, "Detail": json.dumps(detail)}
        answer = self.events.put_events(Entries=[entry])
        expect(f"PutEvents {kind}", answer["FailedEntryCount"], 0)

    def order(self, referee, order):
        self.publish("order.completed", order_id=order, user_id=referee, amount=4200, currency="USD")

    def attribute(self, referee, code="ada-invites"):
        status, _, body = self.ask("POST", "/v1/referrals", {"referee_id": referee, "code": code})
        expect(f"attribution of {referee}", (status, body.get("status")), (201, "pending"))


def expect(what, found, wanted):
    if found != wanted:
        raise Failed(f"{what}: expected {wanted}, got {found}")
    print(f"ok     {what}: {found}", flush=True)


def rewarded(product, referee, seconds=60):
    """Waits until both rewards are delivered."""

    def look():
        referral = product.referral(referee)
        rewards = referral.get("rewards", [])
        return referral if [reward["status"] for reward in rewards] == ["delivered", "delivered"] else None

    return until(f"two delivered rewards of {referee}", seconds, look)


def user(emulator, name, statement=None):
    """Makes an IAM user with these permissions; returns its access keys."""
    iam = emulator.client("iam")
    iam.create_user(UserName=name)
    if statement:
        policy = {"Version": "2012-10-17", "Statement": statement}
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


# ----- Tests --------------------------------------------------------------------------------------------------------


def callers_without_permission_are_refused(stack, product):
    for method, path in ("PUT", "/v1/users/mallory/code"), ("GET", "/v1/referrals/bob"), ("POST", "/v1/referrals"):
        body = {} if method != "GET" else None
        expect(f"unsigned {method} {path}", product.ask(method, path, body, signed=False)[0], 403)
    stranger = Product(stack, user(stack.emulator, "stranger"))
    expect("signed by a user without permissions", stranger.ask("GET", "/v1/referrals/bob")[0], 403)
    forger = Product(stack, (product.keys[0], "not-the-secret"))
    expect("signed with another secret", forger.ask("GET", "/v1/referrals/bob")[0], 403)
    try:
        stranger.publish("order.completed", order_id="o-0", user_id="bob", amount=4200, currency="USD")
        raise Failed("the event of a user without permissions was accepted")
    except botocore.exceptions.ClientError as error:
        expect("the event of a user without permissions", error.response["Error"]["Code"], "AccessDeniedException")


def from_mint_to_two_rewards(stack, product, subsystem):
    status, _, code = product.ask("PUT", "/v1/users/ada/code", {"code": "ada-invites"})
    expect("mint", (status, code.get("code")), (201, "ada-invites"))
    expect("its link", code["link"], f"{stack['ApiUrl']}/r/ada-invites")
    status, headers, _ = product.ask("GET", "/r/ada-invites", signed=False)
    cookie = headers.get("Set-Cookie", "")
    expect("landing, unsigned", (status, cookie.startswith("referral="), "HttpOnly" in cookie), (302, True, True))
    visitor = {"Cookie": cookie.split(";")[0]}
    status, _, body = product.ask("POST", "/v1/referrals", {"referee_id": "bob"}, visitor)
    expect("attribution by cookie", (status, body.get("referrer_id")), (201, "ada"))
    product.order("bob", "o-1")
    referral = rewarded(product, "bob")
    expect("bob's referral", (referral["status"], referral["order_id"]), ("rewarded", "o-1"))
    secret = stack.emulator.client("secretsmanager").get_secret_value(SecretId=stack["WebhookSecretArn"])["SecretString"]
    for headers, body in subsystem.of("bob"):
        check_call(headers, body, secret)
    sides = sorted(json.loads(body)["side"] for _, body in subsystem.of("bob"))
    expect("sides of the subsystem's calls", sides, ["referee", "referrer"])


def check_call(headers, body, secret):
    """Checks a call to the subsystem: its key, and its signature by Standard Webhooks."""
    reward = json.loads(body)
    expect("Idempotency-Key", headers.get("idempotency-key"), reward["reward_id"])
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    digest = hmac.new(base64.b64decode(secret), signed, hashlib.sha256).digest()
    found = headers["webhook-signature"].split(" ")
    expect("webhook-signature", "v1," + base64.b64encode(digest).decode() in found, True)
    expect("webhook-timestamp is now", abs(time.time() - int(headers["webhook-timestamp"])) < 120, True)


def duplicates_do_nothing(stack, product, subsystem):
    again = product.ask("POST", "/v1/referrals", {"referee_id": "bob", "code": "ada-invites"})
    expect("the same attribution again", again[0], 200)
    product.ask("PUT", "/v1/users/zoe/code", {"code": "zoe-invites"})
    status, _, body = product.ask("POST", "/v1/referrals", {"referee_id": "bob", "code": "zoe-invites"})
    expect("a second referrer", (status, body.get("reason")), (409, "already_referred"))
    before = product.referral("bob")
    for _ in range(3):
        product.order("bob", "o-1")
    product.order("bob", "o-2")
    # When a later referral is rewarded, the orders before it have been processed.
    product.attribute("carol")
    product.order("carol", "o-3")
    rewarded(product, "carol")
    expect("bob's referral is unchanged after four more orders", product.referral("bob") == before, True)
    expect("calls about bob", len(subsystem.of("bob")), 2)


def a_refused_reward_waits_for_an_operator(stack, product, operator, subsystem):
    for path in "/admin/rewards", "/admin/dead-letters":
        expect(f"unsigned GET {path}", operator.ask("GET", path, signed=False)[0], 403)
        expect(f"GET {path} by the product", Product(stack, product.keys, "AdminApiUrl").ask("GET", path)[0], 403)
    subsystem.refused.add("hal")
    product.attribute("hal")
    product.order("hal", "o-hal")

    def failed():
        status, _, body = operator.ask("GET", "/admin/rewards?status=failed")
        found = {item["reward_id"]: item["failure"][:3] for item in body.get("items", [])} if status == 200 else {}
        return found if len(found) == 2 else None

    found = until("hal's two rewards among the failed", 60, failed)
    expect("refused for good, and why", found, {"hal:referrer": "400", "hal:referee": "400"})
    subsystem.refused.clear()
    for reward in sorted(found):
        expect(f"{reward} sent again", operator.ask("POST", f"/admin/rewards/{reward}/resend", {})[0], 202)
    rewarded(product, "hal")
    expect("a second resend", operator.ask("POST", "/admin/rewards/hal:referee/resend", {})[0], 409)
    keys = sorted(headers["idempotency-key"] for headers, _ in subsystem.of("hal"))
    expect("keys of the calls about hal", keys, ["hal:referee"] * 2 + ["hal:referrer"] * 2)
    found = {queue.pop("queue"): queue for queue in operator.ask("GET", "/admin/dead-letters")[2]["items"]}
    none = {"messages": 0, "last_redrive": None}
    expect("dead letters", found, {"credit": none, "coupon": none, "points": none, "conversion": none})


def unreadable_input_is_quarantined(stack, product):
    table = stack.emulator.client("dynamodb")

    def break_record(referee, note):
        # The key of a referral with a content that is not one.
        item = {"pk": {"S": f"REFEREE#{referee}"}, "sk": {"S": "REFERRAL"}, "status": {"S": "nonsense"}, "note": {"S": note}}
        table.put_item(TableName=stack["TableName"], Item=item)

    def quarantined(word):
        return [text for text in stack.messages("QuarantineQueueUrl") if word in text]

    product.attribute("dora")
    break_record("poison-small", "x")
    product.publish("order.completed", order_id="poison-event")
    # The note is twice as long in JSON as in the table, and is part of both images. No queue accepts a message of that size, so the
    # function cannot quarantine the record, and Lambda sends it to the bucket.
    break_record("poison-large", '"' * 390_000)
    break_record("poison-large", '"' * 390_001)
    product.order("dora", "o-4")
    expect("the referral after the unreadable records", rewarded(product, "dora", 120)["status"], "rewarded")
    found = json.loads(until("the unreadable event in quarantine", 30, lambda: quarantined("poison-event"))[0])
    expect("the unreadable event, with its payload", found["payload"]["detail"], {"order_id": "poison-event"})
    found = until("the unreadable record in quarantine", 30, lambda: quarantined("poison-small"))
    expect("the unreadable record, in quarantine", json.loads(found[0])["function"], "rewards")
    reports = until("the oversized record, in the bucket", 60, stack.objects)
    records = json.loads(reports[0]["payload"])["Records"]
    found = (reports[0]["requestContext"]["condition"], [record["dynamodb"]["Keys"]["pk"]["S"] for record in records])
    expect("the oversized record, complete in the bucket", found, ("RetryAttemptsExhausted", ["REFEREE#poison-large"]))


def an_update_does_not_interrupt(stack, product, deploy):
    """Changes a parameter while a client sends requests."""
    answers, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                status = product.ask("GET", "/v1/referrals/bob")[0]
                # When the emulator replaces a function, it may end it during a call. AWS waits for the call.
                answers.append(status if status != 502 else product.ask("GET", "/v1/referrals/bob")[0])
            except OSError as error:
                answers.append(str(error))
            time.sleep(0.1)

    client = threading.Thread(target=ask)
    client.start()
    try:
        deploy(HoldSeconds=HOLD)
    finally:
        stop.set()
        client.join()
    after = Stack(stack.emulator)
    expect("the update", (after.status, after.outputs == stack.outputs), ("UPDATE_COMPLETE", True))
    expect(f"each of {len(answers)} answers during the update", set(answers), {200})


def a_hold_is_kept(stack, product, subsystem):
    for referee in "eve", "finn":
        product.attribute(referee)
        product.order(referee, f"o-{referee}")
    for referee in "eve", "finn":
        until(f"{referee}'s conversion", 30, lambda: product.referral(referee).get("status") == "converted")
    product.publish("order.cancelled", order_id="o-eve", user_id="eve")
    until("eve's referral voided", 30, lambda: product.referral("eve").get("status") == "voided")
    expect("cancelled during the hold", product.referral("eve")["void_reason"], "order_cancelled")
    # The schedule calls the sweep each minute; the test does not wait for it.
    sweep = stack.emulator.client("lambda")

    def swept():
        answer = sweep.invoke(FunctionName=stack["SweepFunctionName"], Payload=b"{}")
        if answer.get("FunctionError"):
            raise Failed(f"the sweep: {answer['Payload'].read().decode()}")
        return product.referral("finn").get("status") == "rewarded"

    until("the sweep's issue after the hold", HOLD + 30, swept)
    rewarded(product, "finn")
    expect("calls about finn, and about eve", (len(subsystem.of("finn")), len(subsystem.of("eve"))), (2, 0))


@contextlib.contextmanager
def without_permissions(stack, output, policy, service):
    """Removes the permissions for a service from a function's role for a while."""
    iam, functions = stack.emulator.client("iam"), stack.emulator.client("lambda")
    role = functions.get_function_configuration(FunctionName=stack[output])["Role"].split("/")[-1]
    whole = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]

    def put(statements):
        document = {**whole, "Statement": statements}
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))

    put([one for one in whole["Statement"] if not one["Action"][0].startswith(f"{service}:")])
    try:
        yield
    finally:
        put(whole["Statement"])


def functions_need_the_permissions_of_their_roles(stack, product):
    """Shows that the emulator checks the roles."""
    with without_permissions(stack, "AttributionFunctionName", "attribution", "dynamodb"):
        expect("the API without its function's permissions", product.ask("GET", "/v1/referrals/bob")[0], 503)
    expect("the API with them again", product.ask("GET", "/v1/referrals/bob")[0], 200)


def an_order_survives_an_outage(stack, product):
    """An order that arrives while the table is unavailable is kept, and processed automatically after the outage."""
    product.attribute("gina")
    with without_permissions(stack, "ConversionFunctionName", "conversion", "dynamodb"):
        product.order("gina", "o-gina")
        # Three attempts fail, the event goes to the dead-letter queue, and the attempt from there fails, too.
        queue = {"QueueUrl": stack["ConversionDeadLetterQueueUrl"], "AttributeNames": ["All"]}
        sqs = stack.emulator.client("sqs")

        def in_flight():
            found = sqs.get_queue_attributes(**queue)["Attributes"]
            return int(found["ApproximateNumberOfMessagesNotVisible"])

        until("the order in the dead-letter queue", 60, in_flight)
        # The attempt that is in progress has to end before the outage does.
        time.sleep(3)
        expect("gina's referral in the outage", product.referral("gina")["status"], "pending")
    # The queue hides the message for sixty seconds, and the hold is added to that.
    until("gina's conversion after the outage", 120, lambda: product.referral("gina").get("status") != "pending")
    rewarded(product, "gina", 180)
    expect("gina's referral after the outage", product.referral("gina")["status"], "rewarded")


def alarms(stack):
    pages = stack.emulator.client("cloudwatch").get_paginator("describe_alarms").paginate()
    return [alarm for page in pages for alarm in page["MetricAlarms"]]


def the_nested_stack_watches(stack):
    """Alarms and the dashboard are created by a nested template, from names that the root template passes to it."""
    found = alarms(stack)
    expect("actions of the alarms", {action for alarm in found for action in alarm["AlarmActions"]}, {stack["AlarmTopicArn"]})
    dashboard = stack.emulator.client("cloudwatch").get_dashboard(DashboardName=stack["DashboardName"])
    shown = json.loads(dashboard["DashboardBody"])["widgets"][0]["properties"]["alarms"]
    expect("the dashboard shows every alarm", sorted(shown) == sorted(alarm["AlarmArn"] for alarm in found), True)
    watched = {pair["Value"] for alarm in found for pair in alarm.get("Dimensions", [])}
    expect("the sweep and the table are watched", {stack["SweepFunctionName"], stack["TableName"]} <= watched, True)


def no_queue_has_messages_left(stack):
    for output in stack.outputs:
        if output.endswith("QueueUrl") and output not in ("QuarantineQueueUrl", "ConversionDelayQueueUrl"):
            if left := stack.messages(output):
                raise Failed(f"messages left in {output}: {left}")
    print("ok     every other queue is empty", flush=True)


def the_stack_can_be_removed(stack):
    # Not with `sam delete`: it reads the nested template's bucket from its URL, and knows only the host names of S3 itself.
    cloudformation = stack.emulator.client("cloudformation")
    cloudformation.delete_stack(StackName=STACK)

    def gone():
        found = [item for item in cloudformation.list_stacks()["StackSummaries"] if item["StackName"] == STACK]
        return {item["StackStatus"] for item in found} <= {"DELETE_COMPLETE"}

    until("the stack's removal", 60, gone)
    expect("tables left", stack.emulator.client("dynamodb").list_tables()["TableNames"], [])
    expect("functions left", stack.emulator.client("lambda").list_functions()["Functions"], [])
    expect("queues left", stack.emulator.client("sqs").list_queues().get("QueueUrls", []), [])
    expect("alarms left", alarms(stack), [])
    expect("objects in the bucket that was kept", len(stack.objects()), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="a folder for logs")
    parser.add_argument("--long", action="store_true", help="with the tests that wait for minutes")
    arguments = parser.parse_args()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    mortal()
    started = time.monotonic()
    subsystem, emulator = Subsystem(), Emulator(work)
    try:
        test(emulator, subsystem, arguments)
        print(f"all deployment tests: {time.monotonic() - started:.0f} s", flush=True)
    except Failed as failed:
        tail = emulator.process.text()[-4000:]
        raise Failed(f"{failed}\n--- last lines of {emulator.process.log}\n{tail}") from failed
    finally:
        emulator.process.end()


def test(emulator, subsystem, arguments):
    work = arguments.work

    def deploy(**more):
        parameters = {"EndpointUrl": emulator.url, "CreditEndpoint": subsystem.url, "DeletionProtection": "false", **more}
        pairs = [f"{name}={value}" for name, value in parameters.items()]
        emulator.sam(f"deploy-{len(more)}", "deploy", "--parameter-overrides", *pairs, work=work)

    deploy()
    stack = Stack(emulator)
    expect("the stack", stack.status, "CREATE_COMPLETE")
    account = stack["BusArn"].split(":")[4]

    def may_call(output):
        api = f"arn:aws:execute-api:{REGION}:{account}:{stack[output]}/*"
        return {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": api}

    may_publish = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": stack["BusArn"]}
    product = Product(stack, user(emulator, "product", [may_call("ApiId"), may_publish]))
    operator = Product(stack, user(emulator, "operator", [may_call("AdminApiId")]), "AdminApiUrl")
    the_nested_stack_watches(stack)
    callers_without_permission_are_refused(stack, product)
    from_mint_to_two_rewards(stack, product, subsystem)
    duplicates_do_nothing(stack, product, subsystem)
    a_refused_reward_waits_for_an_operator(stack, product, operator, subsystem)
    unreadable_input_is_quarantined(stack, product)
    an_update_does_not_interrupt(stack, product, deploy)
    a_hold_is_kept(stack, product, subsystem)
    functions_need_the_permissions_of_their_roles(stack, product)
    if arguments.long:
        an_order_survives_an_outage(stack, product)
    no_queue_has_messages_left(stack)
    the_stack_can_be_removed(stack)


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"error: {failed}")
