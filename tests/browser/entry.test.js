// Signing in with a token or with AWS credentials. Credentials are kept no longer than the user chose.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Sha256 } from "@aws-crypto/sha256-js";
import { SignatureV4 } from "@smithy/signature-v4";
import { accessible, calm, fits, launch, open, picture } from "./browser.js";
import { Service } from "./service.js";

const KEYS = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" };

let browser, service;
before(async () => {
  service = await Service.start();
  await service.refer({ referrals: 3, referrers: 1 });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await service?.stop();
});

/** Opens the page behind a gateway that forwards the requests that `allows` accepts, and answers others with `status`. */
async function behind(allows, status, how = {}) {
  const opened = await open(browser, "about:blank", { expected: [String(status)], ...how });
  await opened.context.route("**/admin/**", async (route) => {
    const allowed = await allows(route.request());
    await (allowed ? route.continue() : route.fulfill({ status, json: { message: "Forbidden" } }));
  });
  await opened.page.goto(`${service.url}/dashboard`);
  opened.host = new URL(service.url).host;
  return opened;
}

const asOf = (page) => page.waitForFunction(() => document.querySelector("#status").textContent.startsWith("As of"));

test("a token is sent with every call, and kept no longer than chosen", async () => {
  const opened = await behind((request) => request.headers().authorization === "Bearer right", 401, { size: "phone", scheme: "dark" });
  const { page } = opened;
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  await picture(page, "entry-dark-phone");
  await accessible(page);
  await fits(page);
  await page.getByLabel("Token", { exact: true }).fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByText("Sign-in failed").waitFor();
  await page.getByLabel("Token", { exact: true }).fill("right");
  await page.keyboard.press("Enter");
  await asOf(page);
  assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length]), [0, 0]);
  await page.reload();
  await dialog.waitFor();

  await page.getByLabel("Token", { exact: true }).fill("right");
  await page.getByLabel("Keep until this tab closes").check();
  await page.getByRole("button", { name: "Sign in" }).click();
  await asOf(page);
  await page.reload();
  await asOf(page);
  await page.getByRole("button", { name: "Sign out" }).click();
  await dialog.waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  calm(opened);
  await opened.context.close();
});

test("an action with an expired token is sent after signing in again", async () => {
  let valid = "first";
  const opened = await behind((request) => request.headers().authorization === `Bearer ${valid}`, 401);
  const { page } = opened;
  const token = page.getByLabel("Token", { exact: true });
  await token.fill("first");
  await page.keyboard.press("Enter");
  await asOf(page);
  await page.getByLabel("Referee", { exact: true }).fill("referee-2");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Void the referral of referee-2" }).click();
  await page.getByLabel("Reason", { exact: true }).fill("duplicate account");
  valid = "second";
  await page.getByRole("button", { name: "Confirm" }).click();
  await token.waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#action-problem", { hasText: "Forbidden" }).waitFor();
  await page.getByRole("button", { name: "Confirm" }).click();
  await token.fill("second");
  await page.keyboard.press("Enter");
  await page.locator("#status", { hasText: "Voided the referral of referee-2." }).waitFor();
  assert.equal((await service.get("/admin/referrals/referee-2")).notes.length, 1);
  calm(opened);
  await opened.context.close();
});

for (const sessionToken of [undefined, "a session/token+="]) {
  test(`calls have the same signature as from AWS's library, ${sessionToken ? "with" : "without"} a session`, async () => {
    const signer = new SignatureV4({
      service: "execute-api", region: "eu-central-1", sha256: Sha256, credentials: { ...KEYS, sessionToken },
    });
    const signed = new Set();
    const opened = await behind(async (request) => {
      const { authorization, "x-amz-date": time } = request.headers();
      if (!time) return false;
      const url = new URL(request.url());
      const date = new Date(time.replace(/(....)(..)(..)T(..)(..)(..)Z/, "$1-$2-$3T$4:$5:$6Z"));
      const type = request.headers()["content-type"];
      const expected = await signer.sign({
        method: request.method(), protocol: url.protocol, hostname: url.hostname, path: url.pathname,
        headers: { host: url.host, ...(type && { "content-type": type }) },
        query: Object.fromEntries(url.searchParams), body: request.postData() ?? undefined,
      }, { signingDate: date, unsignableHeaders: new Set(["x-amz-content-sha256"]) });
      const signature = (header) => header.match(/Signature=([0-9a-f]{64})$/)[1];
      if (signature(authorization) === signature(expected.headers.authorization)) signed.add(url.pathname);
      return signed.has(url.pathname);
    }, 403, { expected: ["403", "404"] });
    const { page } = opened;
    await page.getByLabel("Access key id").fill(KEYS.accessKeyId);
    await page.getByLabel("Secret access key").fill(KEYS.secretAccessKey);
    await page.getByLabel("Session token").fill(sessionToken ?? "");
    await page.getByLabel("Region").fill("eu-central-1");
    await page.getByRole("button", { name: "Sign in" }).click();
    await asOf(page);
    // A program whose name must be escaped in the path, and which does not exist; dates in the query.
    await page.getByLabel("Program").fill("a.b@c+d|e");
    await page.getByRole("button", { name: "Show", exact: true }).click();
    await page.waitForFunction(() => location.search.includes("a.b"));
    await page.getByText("Some data could not be loaded.").waitFor();
    assert.equal(signed.size, 9, [...signed].join());

    // Requests with a body: one with POST and one with PUT.
    const referee = sessionToken ? "referee-1" : "referee-0";
    await page.getByLabel("Referee", { exact: true }).fill(referee);
    await page.getByRole("button", { name: "Show referral" }).click();
    for (const [action, done] of [[`Void the referral of ${referee}`, `Voided the referral of ${referee}.`], [`Clear ${referee}`, `Cleared ${referee}.`]]) {
      await page.getByRole("button", { name: action, exact: true }).click();
      await page.getByLabel("Reason", { exact: true }).fill("ordered – für \"Zoë\"");
      await page.getByRole("button", { name: "Confirm" }).click();
      await page.locator("#status", { hasText: done }).waitFor();
    }
    assert.ok(signed.has(`/admin/referrals/${referee}/void`) && signed.has(`/admin/accounts/${referee}/flag`), [...signed].join());
    calm(opened);
    await opened.context.close();
  });
}

test("without signing in, the page shows the refusals", async () => {
  const { page, context } = await behind(() => false, 403);
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("[role=alert]", { hasText: "Forbidden" }).count(), 9);
  assert.equal(await page.locator("#status").textContent(), "Some data could not be loaded.");
  await context.close();
});
