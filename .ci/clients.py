"""Checks the generated Python client: it has every answer of openapi.yaml with its type. Then calls the local service with it, and
with the compiled TypeScript clients."""

import argparse
import ast
import importlib
import pathlib
import re
import subprocess
import sys

from ruamel.yaml import YAML
from support import Failed, Process, mortal, until

PACKAGE = "referrals_client"


def snake(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def resolved(document, value):
    if "$ref" not in value:
        return value
    found = document
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def answers(document):
    """Every answer: the operation's folder and name, the status, and whether the answer has a body."""
    for path in document["paths"].values():
        for operation in path.values():
            if "operationId" not in operation:
                continue
            for status, answer in operation["responses"].items():
                has_body = bool(resolved(document, answer).get("content"))
                yield operation["tags"][0].lower(), snake(operation["operationId"]), int(status), has_body


def parsed_statuses(source):
    """The statuses that a module of the client parses, and the code that makes the value."""
    function = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "_parse_response")
    return {
        node.test.comparators[0].value: ast.unparse(node.body)
        for node in function.body
        if isinstance(node, ast.If) and ast.unparse(node.test).startswith("response.status_code ==")
    }


def check_answers(document, client):
    count = 0
    for folder, name, status, has_body in answers(document):
        file = client / "api" / folder / f"{name}.py"
        if not file.exists():
            raise Failed(f"the client has no {name}")
        code = parsed_statuses(file.read_text()).get(status)
        if code is None:
            raise Failed(f"{name}: the client has no answer {status}")
        if has_body and "cast(Any" in code:
            raise Failed(f"{name}: the client has no type for answer {status}")
        count += 1
    for file in client.glob("models/*.py"):
        if re.search(r"^    \w+: (Any|Any \| Unset)\b", file.read_text(), re.MULTILINE):
            raise Failed(f"{file.name}: a field without a type")
    print(f"openapi-python-client: {count} answers with a type")


def load(client):
    """Imports every module, so that the whole client is compiled and all its names exist."""
    sys.path.insert(0, str(client.parent))
    for file in sorted(client.rglob("*.py")):
        parts = file.relative_to(client.parent).with_suffix("").parts
        importlib.import_module(".".join(part for part in parts if part != "__init__"))


def call_service(url):
    api = importlib.import_module(f"{PACKAGE}.api")
    models = importlib.import_module(f"{PACKAGE}.models")
    client = importlib.import_module(f"{PACKAGE}.client").Client(base_url=url)

    def call(place, *arguments, **options):
        return importlib.import_module(f"{api.__name__}.{place}").sync(*arguments, client=client, **options)

    def expect(what, seen, kind, **fields):
        if not isinstance(seen, kind) or any(getattr(seen, name) != value for name, value in fields.items()):
            raise Failed(f"{what}: {seen!r}")

    code = call("codes.mint_code", "ida", body=models.MintRequest(code="ida-invites"))
    expect("a new code", code, models.OwnedCode, user_id="ida", expires_at=None)
    taken = call("codes.mint_code", "eve", body=models.MintRequest(code="ida-invites"))
    expect("a taken code", taken, models.MintCodeResponse409, reason=models.MintCodeResponse409Reason.CODE_TAKEN)
    made = call("referrals.attribute", body=models.AttributeRequest(referee_id="joe", code="ida-invites"))
    expect("a new referral", made, models.Referral, referrer_id="ida", void_reason=None, rewards=[])
    expect("no referral", call("referrals.referral", "zoe"), models.ReferralResponse404)
    expect("no undelivered rewards", call("operators.undelivered"), models.UndeliveredPage, items=[], next_cursor=None)
    expect("the days", call("operators.daily", "default"), models.Daily, program="default")
    print("openapi-python-client: all calls answered as described")


def check(arguments, folder):
    client = folder / PACKAGE
    check_answers(YAML(typ="safe").load(arguments.document), client)
    load(client)
    service = Process([arguments.service, "--port", "0", "--dynamodb-port", "0"], folder / "service.log")
    try:
        ready = until("the service is ready", 30, lambda: re.search(r"ready (http\S+)", service.text()), service)
        call_service(ready[1])
        subprocess.run(["node", "compiled/calls.js", ready[1]], cwd=folder, check=True, timeout=30)
    finally:
        service.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--document", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="the generated clients")
    parser.add_argument("--service", required=True)
    arguments = parser.parse_args()
    mortal()
    try:
        check(arguments, arguments.folder)
    except (Failed, subprocess.SubprocessError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
