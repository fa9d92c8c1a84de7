// A reward endpoint: verifies the Standard Webhooks signature and books each reward and each reversal exactly once.
// Usage: WEBHOOK_SECRET=whsec_... DATA=bookings PORT=8080 node server.mjs
import { createHash, randomUUID } from "node:crypto";
import { linkSync, mkdirSync, unlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

const { WEBHOOK_SECRET, DATA = "bookings", PORT = "8080" } = process.env;
const webhook = new Webhook(WEBHOOK_SECRET ?? "");
mkdirSync(DATA, { recursive: true });

/**
 * Books the body under its key. Returns false when the key is booked already.
 * Never delete a booking: the service can repeat a call after years. In a database, the key is a unique column of the
 * ledger, written in the same transaction as the booking.
 */
function book(key, body) {
  const final = join(DATA, createHash("sha256").update(key).digest("hex"));
  const draft = join(DATA, `draft-${randomUUID()}`);
  // A crash must not leave an empty booking, so the complete file gets its final name in one exclusive step.
  writeFileSync(draft, body, { flag: "wx", flush: true });
  try {
    linkSync(draft, final);
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  } finally {
    unlinkSync(draft);
  }
}

async function answer(request) {
  if (request.method !== "POST") return [405, "only POST is supported"];
  const body = await text(request);
  try {
    webhook.verify(body, request.headers);
  } catch (error) {
    return [401, error.message];
  }
  // `webhook-id` is part of what was signed; `idempotency-key` has the same value but is not signed.
  const isNew = book(request.headers["webhook-id"], body);
  const kind = request.url.endsWith("/reversals") ? "reversal" : "reward";
  // A repeated call is a success. 409 would mean "the same call is in progress, send it again".
  console.log(isNew ? "booked" : "already booked", kind, request.headers["webhook-id"]);
  return [200, "ok"];
}

const server = createServer(async (request, response) => {
  // 500 means "not booked, send it again". Any 4xx except 408, 409, 425 and 429 is final: the reward waits for a person.
  const [status, message] = await answer(request).catch((error) => [500, error.message]);
  response.writeHead(status, { "Content-Type": "text/plain" }).end(`${message}\n`);
});
server.listen(Number(PORT), "127.0.0.1", () => console.log(`listening on port ${server.address().port}`));
