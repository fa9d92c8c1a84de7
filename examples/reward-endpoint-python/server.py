"""A reward endpoint: verifies the Standard Webhooks signature and books each reward and each reversal exactly once.

Usage: WEBHOOK_SECRET=whsec_... DATABASE=bookings.sqlite PORT=8080 python server.py
"""

import os
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook

WEBHOOK = Webhook(os.environ["WEBHOOK_SECRET"])
DATABASE = os.environ.get("DATABASE", "bookings.sqlite")


def book(key, kind, body):
    """Books the body under its key. Returns False when the key is booked already.

    The key is unique in the ledger itself. Never delete a row: the service can repeat a call after years.
    """
    with closing(sqlite3.connect(DATABASE, timeout=4)) as database, database:
        insert = "INSERT INTO bookings (key, kind, body) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
        return database.execute(insert, (key, kind, body)).rowcount == 1


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            WEBHOOK.verify(body, dict(self.headers))
        except Exception as error:  # The library also raises ValueError for headers and bodies that it cannot parse.
            return self.answer(401, str(error))
        kind = "reversal" if self.path.endswith("/reversals") else "reward"
        # `webhook-id` is part of what was signed; `idempotency-key` has the same value but is not signed.
        key = self.headers["webhook-id"]
        try:
            is_new = book(key, kind, body.decode())
        except sqlite3.Error as error:  # 500 means "not booked, send it again".
            return self.answer(500, str(error))
        # A repeated call is a success. 409 would mean "the same call is in progress, send it again".
        print("booked" if is_new else "already booked", kind, key, flush=True)
        self.answer(200, "ok")

    def answer(self, status, message):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(f"{message}\n".encode())


if __name__ == "__main__":
    with closing(sqlite3.connect(DATABASE)) as tables, tables:
        tables.execute("CREATE TABLE IF NOT EXISTS bookings (key TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL)")
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Endpoint)
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()
