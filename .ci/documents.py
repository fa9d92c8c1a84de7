"""Runs the `sh` blocks of a document in order against the local service, and compares their output with the document.

A `json` block after an `sh` block must equal the output, except for times, ids and ports. Each line of a `text` block
must occur in it.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from markdown_it import MarkdownIt
from support import Failed, Process, mortal, until

# The address that the document names; the check runs on a free port.
ADDRESS = "http://127.0.0.1:9000"

VARIABLE = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
]


def steps(document):
    """The commands of a document, each with the blocks of output that follow it."""
    found = []
    for token in MarkdownIt().parse(document.read_text()):
        if token.type != "fence":
            continue
        if token.info == "sh":
            found.append((token.map[0] + 1, token.content, []))
        elif token.info in ("json", "text") and found:
            found[-1][2].append((token.info, token.content))
    return found


def constant(text):
    """The text without what differs between two runs."""
    for pattern, name in VARIABLE:
        text = re.sub(pattern, name, text)
    return text


def compare(kind, wanted, output):
    if kind == "json":
        seen = json.loads(constant(output))
        if seen != json.loads(constant(wanted)):
            raise Failed(f"the output is {json.dumps(seen)}")
    else:
        for line in wanted.splitlines():
            if constant(line) not in constant(output):
                raise Failed(f"{line!r} is not in the output: {output}")


def run(document, url, folder):
    count = 0
    for line, command, blocks in steps(document):
        where = f"{document}:{line}"
        script = "set -eu\n" + command.replace(ADDRESS, url)
        done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failed(f"{where}: exit code {done.returncode}: {done.stderr}{done.stdout}")
        output = done.stdout.replace(url, ADDRESS)
        for kind, wanted in blocks:
            try:
                compare(kind, wanted, output)
            except (Failed, ValueError) as problem:
                raise Failed(f"{where}: {problem}") from problem
        print(f"{where}: ok, {len(blocks)} compared", flush=True)
        count += 1
    if not count:
        raise Failed(f"{document} has no sh block")
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", required=True, help="the local service's program")
    parser.add_argument("document", type=pathlib.Path)
    arguments = parser.parse_args()
    mortal()
    with tempfile.TemporaryDirectory() as folder:
        command = [arguments.service, "--port", "0", "--dynamodb-port", "0"]
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        service = Process(command, pathlib.Path(folder, "service.log"), env=environment)
        try:
            ready = until("the service is ready", 30, lambda: re.search(r"ready (http\S+)", service.text()), service)
            count = run(arguments.document, ready[1], folder)
        except Failed as problem:
            print(f"error: {problem}", file=sys.stderr)
            return 1
        finally:
            service.end()
    print(f"{count} commands of {arguments.document} do what it says")
    return 0


if __name__ == "__main__":
    sys.exit(main())
