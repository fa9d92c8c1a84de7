"""Helpers that the checks in this folder share: processes that always end, waiting with a limit, and plain HTTP calls."""

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
    """A check failed; the text says which."""


class Process:
    """A process in a process group of its own, which is ended as a whole."""

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
        """Ends the process and its children."""
        self.send(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            pass
        # Children that are still running are in its group.
        self.send(signal.SIGKILL)
        self.process.wait()
        self.file.close()

    def send(self, signal_number):
        try:
            os.killpg(self.process.pid, signal_number)
        except ProcessLookupError:
            pass


def until(what, seconds, probe, process=None):
    """Calls `probe` until its result is true, and returns that result."""
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
    """Returns redirects as answers instead of following them."""

    def redirect_request(self, *_):
        return None


def call(method, url, body=None, headers=None):
    """Sends a request; returns status, headers and body. `body` is sent as JSON, or unchanged if it is bytes."""
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
    """A free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def mortal():
    """Makes SIGTERM raise SystemExit, so that `finally` blocks run when a time limit ends this process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
