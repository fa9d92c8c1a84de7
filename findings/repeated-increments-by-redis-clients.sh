#!/usr/bin/env bash
# A reward of 500 points, added to a balance with INCRBY, when the connection ends before the answer, with five Redis clients.
#
# The server (fakeredis) runs the command. A proxy between it and the client closes the connection instead of passing on the
# first answer `500`, as a failover or a load balancer can. The client can connect again at once.
#
# Guessed before the first run, for redis-py, ioredis and node-redis: the caller gets an error, and the balance is 500, because
# INCRBY may not be repeated blindly. The other clients were added afterwards. Seen with the versions below, and once also with a
# real Redis server 7.0.15 and only default settings:
#
#   client              the caller gets   balance
#   redis-py 8.1.0      1000              1000
#   valkey-py 6.2.0     an error          500
#   ioredis 6.0.0       1000              1000
#   iovalkey 0.4.0      1000              1000
#   node-redis 6.3.1    an error          500
#
# redis-py, ioredis and iovalkey send the command again, and the caller sees only a number: the reward is booked twice.
# valkey-py, made from redis-py, does not. redis-py with a `Retry` of 0 retries, and ioredis with `maxRetriesPerRequest: 0`, also
# report an error. An error does not tell whether the command ran, so book with a command that may be repeated, such as HSETNX
# with the reward's id.
#
# usage: bash findings/repeated-increments-by-redis-clients.sh    (needs Python 3.11 or newer, Node.js 20 or newer, and package
#        registries)
set -euo pipefail
folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fakeredis==2.41.0 redis==8.1.0 valkey==6.2.0
npm install --silent --no-audit --no-fund --ignore-scripts ioredis@6.0.0 iovalkey@0.4.0 redis@6.3.1

cat >serve.py <<'PYTHON'
import socket
import sys
import threading

from fakeredis import TcpFakeServer


def copy(source, target):
    try:
        while data := source.recv(65536):
            if data == b":500\r\n":
                break
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


redis = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
threading.Thread(target=redis.serve_forever, daemon=True).start()
proxy = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = proxy.accept()
    server = socket.create_connection(redis.server_address)
    for ends in ((client, server), (server, client)):
        threading.Thread(target=copy, args=ends, daemon=True).start()
PYTHON
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/python serve.py "$port" 2>server.log &
servers+=($!)
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "${servers[0]}" || exit 1
  sleep 0.2
done

cat >book.py <<'PYTHON'
import sys

import redis
import redis.backoff
import redis.retry
import valkey

port = int(sys.argv[1])
NO_RETRY = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
CLIENTS = {
    "redis-py": redis.Redis("127.0.0.1", port),
    "redis-py, no retry": redis.Redis("127.0.0.1", port, retry=NO_RETRY),
    "valkey-py": valkey.Valkey("127.0.0.1", port),
}
for name, client in CLIENTS.items():
    try:
        answer = client.incrby(name, 500)
    except (redis.ConnectionError, valkey.ConnectionError):
        answer = "error"
    print(name, answer, int(client.get(name)), sep=" | ")
PYTHON
# fakeredis has no INFO, so ioredis and iovalkey must not wait for it.
cat >book.mjs <<'JAVASCRIPT'
import Redis from "ioredis";
import Valkey from "iovalkey";
import { createClient } from "redis";

const port = Number(process.argv[2]);
const options = { host: "127.0.0.1", port, enableReadyCheck: false };
const clients = {
  ioredis: new Redis(options),
  "ioredis, no retry": new Redis({ ...options, maxRetriesPerRequest: 0 }),
  iovalkey: new Valkey(options),
  "node-redis": createClient({ socket: { host: "127.0.0.1", port } }),
};
await clients["node-redis"].on("error", () => {}).connect();
for (const [name, client] of Object.entries(clients)) {
  const add = client.incrby ?? client.incrBy;
  const answer = await add.call(client, name, 500).catch(() => "error");
  console.log([name, answer, await client.get(name)].join(" | "));
  (client.disconnect ?? client.destroy).call(client);
}
JAVASCRIPT
{ venv/bin/python book.py "$port" && node book.mjs "$port"; } | tee seen

cat >wanted <<'TEXT'
redis-py | 1000 | 1000
redis-py, no retry | error | 500
valkey-py | error | 500
ioredis | 1000 | 1000
ioredis, no retry | error | 500
iovalkey | 1000 | 1000
node-redis | error | 500
TEXT
diff -u wanted seen && echo 'as recorded'
