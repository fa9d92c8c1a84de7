// Starts a local service for a test, and creates referrals and orders in it through the public API and the bus.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const BINARY = process.env.LOCAL_SERVICE ?? new URL("../../target/debug/local", import.meta.url).pathname;

/** How long the service may take to process everything. */
const PATIENCE = 600_000;

export class Service {
  /** Starts a service in memory, on free ports. */
  static async start(env = {}) {
    const child = spawn(BINARY, ["--port", "0", "--dynamodb-port", "0"], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "ignore"],
    });
    const lines = createInterface({ input: child.stdout });
    for await (const line of lines) {
      if (line.startsWith("ready ")) return new Service(child, line.slice("ready ".length));
    }
    throw new Error(`${BINARY} ended before it was ready`);
  }

  constructor(child, url) {
    this.child = child;
    this.url = url;
  }

  async stop() {
    this.child.kill("SIGTERM");
    if (this.child.exitCode === null) await once(this.child, "exit");
  }

  async call(method, path, body, headers = {}) {
    const answer = await fetch(`${this.url}${path}`, {
      method,
      headers: { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.status === 204 ? null : answer.json();
  }

  get(path) {
    return this.call("GET", path);
  }

  async publish(type, details) {
    const entries = details.map((detail) =>
      ({ EventBusName: "referrals", Source: "shop", DetailType: type, Detail: JSON.stringify(detail) }));
    await this.call("POST", "/", { Entries: entries }, { "x-amz-target": "AWSEvents.PutEvents" });
  }

  /** Creates `referrals` referrals, distributed over `referrers` referrers. */
  async refer({ referrals, referrers }) {
    const codes = await each(referrers, async (at) => (await this.call("PUT", `/v1/users/referrer-${at}/code`)).code);
    await each(referrals, (at) =>
      this.call("POST", "/v1/referrals", { referee_id: `referee-${at}`, code: codes[at % referrers] }));
  }

  /** Publishes an order of each of these referees, in calls of the maximum size. */
  async order(referees, currency = "USD") {
    await each(Math.ceil(referees.length / 10), (page) =>
      this.publish("order.completed", referees.slice(page * 10, page * 10 + 10).map((at) =>
        ({ order_id: `order-${at}`, user_id: `referee-${at}`, amount: 4200, currency }))));
  }

  /** Waits until `settled` accepts the default program's total and the number of owed rewards. */
  async rest(settled) {
    const end = Date.now() + PATIENCE;
    for (;;) {
      const { total } = await this.get(`/admin/programs/default/daily?${days()}`);
      const { items } = await this.get("/admin/liability");
      const owed = items.reduce((sum, item) => sum + item.total.count, 0);
      if (settled({ total, owed })) return;
      if (Date.now() > end) throw new Error(`not settled: ${owed} owed, ${JSON.stringify(total)}`);
      await pause(200);
    }
  }
}

/** Waits until `met` returns something true, and returns it. */
export async function until(met) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const result = await met();
    if (result) return result;
    if (Date.now() > end) throw new Error(`never happened: ${met}`);
    await pause(100);
  }
}

/** Calls `act` with 0 to `many` - 1, with limited concurrency. Returns the results in order. */
async function each(many, act) {
  const results = [];
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < many; at = next++) results[at] = await act(at);
  };
  await Promise.all(Array.from({ length: 32 }, worker));
  return results;
}

/** The page's default query: the last thirty days. */
export function days() {
  const day = (before) => new Date(Date.now() - before * 86_400_000).toISOString().slice(0, 10);
  return new URLSearchParams({ from: day(29), to: day(0) });
}
