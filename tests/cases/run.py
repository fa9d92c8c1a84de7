#!/usr/bin/env python3
"""Runs cases (see README.md) against the local service, and prints those that fail."""

import argparse
import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
AWS_JSON = {"x-amz-target": "AWSEvents.PutEvents", "content-type": "application/x-amz-json-1.1"}


class Failed(Exception):
    """A step failed; the text says how."""


class Stay(urllib.request.HTTPRedirectHandler):
    """Returns redirects as answers instead of following them."""

    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)

Answer = collections.namedtuple("Answer", "status body headers")


class Service:
    """A local service with these settings, on free ports."""

    def __init__(self, command, env):
        command = [command, "--port", "0", "--dynamodb-port", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **env}, start_new_session=True
        )
        self.base, ready = None, threading.Event()

        # The output is read to its end, because the service would stop at a full pipe.
        def read():
            for line in self.process.stdout:
                found = re.match(r"ready (http://\S+)", line)
                if found:
                    self.base = found[1]
                    ready.set()

        threading.Thread(target=read, daemon=True).start()
        if not ready.wait(60):
            self.stop()
            raise SystemExit("error: the service did not start")

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Case:
    """A running case, with the values that its steps pass on."""

    def __init__(self, base):
        self.base, self.values = base, {}

    def filled(self, step):
        text = json.dumps(step)
        for name, value in self.values.items():
            text = text.replace("{" + name + "}", json.dumps(value)[1:-1])
        return json.loads(text)

    def call(self, method, path, body=None, headers=None):
        data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        headers = {"content-type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            answer = OPENER.open(request, timeout=30)
        except urllib.error.HTTPError as refused:
            answer = refused
        except OSError as problem:
            raise Failed(f"no answer: {problem}") from problem
        with answer:
            text = answer.read().decode(errors="replace")
        try:
            body = json.loads(text) if text else None
        except ValueError:
            body = text
        return Answer(answer.status, body, {name.lower(): value for name, value in answer.headers.items()})

    def http(self, method, path, body=None, headers=None, check=None):
        answer = self.call(method, path, body, headers)
        if isinstance(answer.body, dict) and "code" in answer.body:
            self.values["code"] = answer.body["code"]
        if "set-cookie" in answer.headers:
            self.values["cookie"] = answer.headers["set-cookie"].split(";")[0]
        expected = (check or {}).get("expect", {})
        if answer.status != expected.get("status", answer.status):
            raise Failed(f"status {answer.status}, body {answer.body}")
        if "body" in expected and not matches(answer.body, expected["body"]):
            raise Failed(f"body {answer.body}")
        for name, pattern in expected.get("header", {}).items():
            found = answer.headers.get(name)
            if found is None if pattern else found is not None:
                raise Failed(f"header {name}: {found}")
            if pattern and not re.search(pattern, found):
                raise Failed(f"header {name}: {found}")

    def event(self, kind, detail, options=None):
        self.events([[kind, detail, options or {}]])

    def events(self, events):
        entries = []
        for kind, detail, *options in events:
            options = options[0] if options else {}
            entry = {"EventBusName": "referrals", "Source": options.get("source", "shop"), "DetailType": kind, "Detail": json.dumps(detail)}
            if "time" in options:
                entry["Time"] = options["time"]
            entries.append(entry)
        answer = self.call("POST", "/", {"Entries": entries}, AWS_JSON)
        if answer.status != 200 or answer.body["FailedEntryCount"]:
            raise Failed(f"status {answer.status}, body {answer.body}")

    def wait(self, seconds):
        time.sleep(seconds)

    def until(self, path, fields, seconds):
        end = time.monotonic() + seconds
        while not matches(found := self.call("GET", path).body, fields):
            if time.monotonic() > end:
                raise Failed(f"body {found}")
            time.sleep(0.1)

    def holds(self, path, fields, seconds):
        time.sleep(seconds)
        found = self.call("GET", path).body
        if not matches(found, fields):
            raise Failed(f"body {found}")

    def step(self, step):
        kind, *arguments = self.filled(step)
        kinds = {"http": self.http, "event": self.event, "events": self.events, "wait": self.wait, "until": self.until, "holds": self.holds}
        if kind not in kinds:
            raise Failed("unknown kind of step")
        kinds[kind](*arguments)


def matches(value, wanted):
    """Whether the value has the wanted fields."""
    if isinstance(wanted, dict) and isinstance(value, dict):
        return all(name in value and matches(value[name], one) for name, one in wanted.items())
    if isinstance(wanted, list) and isinstance(value, list):
        return len(value) == len(wanted) and all(map(matches, value, wanted))
    return value == wanted


def passes(base, case):
    running = Case(base)
    for number, step in enumerate(case["steps"], 1):
        try:
            running.step(step)
        except Failed as problem:
            print(f"FAIL {case['name']}\n  step {number}: {json.dumps(step)}\n  {str(problem)[:600]}", flush=True)
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="files of cases")
    parser.add_argument("--upto", type=int, default=sys.maxsize, help="only cases of issues up to this number")
    parser.add_argument("--only", default="", help="only cases with this text in their name")
    parser.add_argument("--base", help="the URL of a running service")
    folder = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    parser.add_argument("--service", default=f"{folder}/debug/local", help="the binary of the local service")
    chosen = parser.parse_args()

    groups = collections.defaultdict(list)
    for name in chosen.files:
        for case in map(json.loads, pathlib.Path(name).read_text().splitlines()):
            if case["issue"] <= chosen.upto and chosen.only in case["name"]:
                groups[json.dumps(case["env"], sort_keys=True)].append(case)
    results = []
    for env, cases in groups.items():
        service = None if chosen.base else Service(chosen.service, json.loads(env))
        try:
            results += [passes(chosen.base or service.base, case) for case in cases]
        finally:
            if service:
                service.stop()
    print(f"{results.count(True)} passed, {results.count(False)} failed")
    # Without a case, a wrong option would look like a success.
    sys.exit(not results or not all(results))


if __name__ == "__main__":
    main()
