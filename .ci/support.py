"""What the checks in this folder share: processes that end, waiting that ends, and HTTP without surprises."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request


class Failed(Exception):
    """Something did not go as it should; the text says what."""


class Process:
    """A process of ours in a group of its own, which ends with it."""

    def __init__(self, command, log, **more):
        self.log = log
        self.file = open(log, "wb")
        self.process = subprocess.Popen(command, stdout=self.file, stderr=subprocess.STDOUT, start_new_session=True, **more)

    def text(self):
        return self.log.read_text(errors="replace")

    def check(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.log.name} ended with {self.process.returncode}:\n{self.text()[-3000:]}")

    def end(self):
        """Ends it, and whatever it started."""
        self.tell(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            pass
        # Those that it left behind are still in its group.
        self.tell(signal.SIGKILL)
        self.process.wait()
        self.file.close()

    def tell(self, sign):
        try:
            os.killpg(self.process.pid, sign)
        except ProcessLookupError:
            pass


def until(what, seconds, probe, process=None):
    """What `probe` gives, once that is something."""
    end = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if process:
            process.check()
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.2)


class Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer."""

    def redirect_request(self, *_):
        return None


def call(method, url, body=None, headers=None):
    """Status, headers and body of an answer; `body` is JSON, or bytes as they are."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        answer = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, answer.read().decode()


def free_port():
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def mortal():
    """Lets `finally` be reached when a time limit ends this process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
