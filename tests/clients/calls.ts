// Calls the local service with three generated clients, and checks that openapi-zod-client lost no answer.
// usage: node compiled/calls.js URL

import createFetchClient from "openapi-fetch";
import { z } from "zod";
import { client as heyApi } from "./generated/hey-api/client.gen.js";
import { attribute, daily, mintCode, referral } from "./generated/hey-api/sdk.gen.js";
import type { paths } from "./generated/openapi.js";
import { createApiClient } from "./generated/zod.js";

declare const process: { argv: string[] };
const baseUrl = process.argv[2] ?? "";

function equal<T>(what: string, seen: T, expected: T) {
  if (JSON.stringify(seen) !== JSON.stringify(expected)) {
    throw new Error(`${what}: ${JSON.stringify(seen)} instead of ${JSON.stringify(expected)}`);
  }
}

/** The body of an answer that must not be a problem. */
function body<T>({ data, error }: { data?: T; error?: unknown }): T {
  if (data === undefined) throw new Error(`refused: ${JSON.stringify(error)}`);
  return data;
}

async function withOpenapiFetch() {
  const client = createFetchClient<paths>({ baseUrl });
  const path = { user_id: "ada" };
  const code = body(await client.PUT("/v1/users/{user_id}/code", { params: { path }, body: { code: "ada-invites" } }));
  equal("a new code", [code.code, code.expires_at], ["ada-invites", null]);
  const refused = await client.PUT("/v1/users/{user_id}/code", { params: { path: { user_id: "eve" } }, body: { code: "ada-invites" } });
  equal("a taken code", [refused.response.status, refused.error && "reason" in refused.error && refused.error.reason], [409, "code_taken"]);
  const page = body(await client.GET("/admin/rewards"));
  equal("no undelivered rewards", page.items.map((reward) => reward.currency_exponent), []);
}

async function withHeyApi() {
  // The document's own server is the default.
  equal("the base URL", heyApi.getConfig().baseUrl, "http://127.0.0.1:9000");
  heyApi.setConfig({ baseUrl });
  const code = body(await mintCode({ path: { user_id: "ada" } }));
  const created = body(await attribute({ body: { referee_id: "bob", code: code.code } }));
  equal("a new referral", [created.status, created.void_reason, created.rewards], ["pending", null, []]);
  const missing = await referral({ path: { referee_id: "zoe" } });
  equal("no referral", missing.error && "reason" in missing.error && missing.error.reason, "referral_not_found");
  const counted = body(await daily({ path: { program: "default" } }));
  equal("30 days", typeof counted === "object" && counted.days.length, 30);
}

async function withZodios() {
  const client = createApiClient(baseUrl);
  for (const { alias, response, errors } of client.api) {
    const schemas: [string, z.ZodTypeAny][] = [["response", response], ...errors.map(({ status, schema }) => [`${status}`, schema] as [string, z.ZodTypeAny])];
    for (const [name, schema] of schemas) {
      // A redirect has no body, and this client no type for its status.
      if (["land", "checkLink"].includes(alias) && ["response", "302"].includes(name)) continue;
      const nothing = [z.ZodVoid, z.ZodUnknown, z.ZodAny, z.ZodUndefined, z.ZodNever];
      if (nothing.some((kind) => schema instanceof kind)) throw new Error(`${alias}: no type for ${name}`);
    }
  }
  // The client compares each answer with its schema.
  const code = await client.mintCode(undefined, { params: { user_id: "ada" } });
  equal("the existing code", code.code, "ada-invites");
  const found = await client.referral({ params: { referee_id: "bob" } });
  equal("the referral", [found.referrer_id, found.converted_at], ["ada", null]);
  const refused = await client.referral({ params: { referee_id: "zoe" } }).catch((problem) => problem.response);
  equal("no referral", [refused.status, refused.data.reason], [404, "referral_not_found"]);
  equal("no liability", await client.liability(), { items: [] });
}

await withOpenapiFetch();
await withHeyApi();
await withZodios();
console.log("openapi-fetch, hey-api and openapi-zod-client: all calls answered as described");
