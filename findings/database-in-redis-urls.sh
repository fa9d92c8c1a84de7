#!/usr/bin/env bash
# The number of the database in a Redis URL, read by three clients of a real server.
#
# One URL is often the setting of several programs, as for a cache that they share.
#
# Guessed: the path is the number, a parameter `db` has no effect, and a path that is no number is an error.
# Seen with the versions below (Debian's redis-server):
#
#   URL                      redis-py 8.1.0   node-redis 6.3.1   ioredis 6.0.0
#   redis://host/1           1                1                  1
#   redis://host/1?db=2      2                1                  1
#   redis://host/?db=2       2                0                  2
#   redis://host/1/          1                an error           1
#   redis://host/cache       0                an error           not tried
#
# So two programs with the same URL can use different databases, without an error. Write the number as the path, or use 0.
#
# usage: bash findings/database-in-redis-urls.sh    (needs redis-server, Python 3.11 or newer, Node.js 20 or newer, and package
#        registries)
set -euo pipefail
command -v redis-server >/dev/null || { echo 'redis-server is missing (Debian: apt-get install redis-server)' >&2; exit 2; }
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check redis==8.1.0
npm install --silent --no-audit --no-fund --ignore-scripts redis@6.3.1 ioredis@6.0.0

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis-server --bind 127.0.0.1 --port "$port" --save '' --daemonize no >server.log &
server=$!
until redis-cli -p "$port" ping >/dev/null 2>&1; do sleep 0.1; done

cat >read.py <<'PYTHON'
import sys

import redis

for end in ["/1", "/1?db=2", "/?db=2", "/1/", "/cache"]:
    try:
        seen = redis.Redis.from_url(f"redis://127.0.0.1:{sys.argv[1]}{end}", decode_responses=True).client_info()["db"]
    except (redis.RedisError, ValueError):
        seen = "error"
    print("redis-py", end, seen, sep=" | ")
PYTHON
cat >read.mjs <<'JAVASCRIPT'
import { Redis } from "ioredis";
import { createClient } from "redis";

const database = (text) => /\bdb=(\d+)/.exec(text)[1];
const withNodeRedis = async (url) => {
  const client = createClient({ url });
  await client.connect();
  const seen = database(await client.sendCommand(["CLIENT", "INFO"]));
  await client.close();
  return seen;
};
const withIoredis = async (url) => {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: null });
  client.on("error", () => {});
  await client.connect();
  const seen = database(await client.client("INFO"));
  client.disconnect();
  return seen;
};
const ends = ["/1", "/1?db=2", "/?db=2", "/1/"];
for (const [name, read, ...more] of [["node-redis", withNodeRedis, "/cache"], ["ioredis", withIoredis]]) {
  for (const end of [...ends, ...more]) {
    const seen = await read(`redis://127.0.0.1:${process.argv[2]}${end}`).catch(() => "error");
    console.log([name, end, seen].join(" | "));
  }
}
process.exit();
JAVASCRIPT
{ venv/bin/python read.py "$port" && node read.mjs "$port"; } | tee seen

cat >wanted <<'TEXT'
redis-py | /1 | 1
redis-py | /1?db=2 | 2
redis-py | /?db=2 | 2
redis-py | /1/ | 1
redis-py | /cache | 0
node-redis | /1 | 1
node-redis | /1?db=2 | 1
node-redis | /?db=2 | 0
node-redis | /1/ | error
node-redis | /cache | error
ioredis | /1 | 1
ioredis | /1?db=2 | 1
ioredis | /?db=2 | 2
ioredis | /1/ | 1
TEXT
diff -u wanted seen && echo 'as recorded'
