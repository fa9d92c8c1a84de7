// The live view: buttons that play a referral's life cycle, and a list of what happens.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, calm, fits, launch, open, picture, SIZES } from "./browser.js";
import { Service } from "./service.js";

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

/** A live view of a service with these settings. */
async function live(env, how) {
  const service = await Service.start(env);
  // A user without a referral is a 404, which Chromium reports as an error.
  const opened = await open(browser, `${service.url}/_local/live`, { expected: ["404"], ...how });
  const act = (name) => opened.page.getByRole("button", { name, exact: true }).press("Enter");
  const entry = (kind, what = "") =>
    opened.page.locator("#events li", { has: opened.page.locator(".kind", { hasText: new RegExp(`^${kind}$`) }), hasText: what });
  const end = async () => {
    calm(opened);
    await opened.context.close();
    await service.stop();
  };
  return { ...opened, service, act, entry, end };
}

for (const scheme of ["light", "dark"]) {
  for (const size of Object.keys(SIZES)) {
    test(`mint, attribute and order lead to two deliveries, ${scheme}, on a ${size}`, async () => {
      const { page, service, act, entry, end } = await live({}, { scheme, size });
      await page.getByText("No one has referred bob.").waitFor();
      await act("Mint");
      await page.getByText("201: the code of ada is").waitFor();
      await act("Attribute");
      await page.getByText("Attribute: 201").waitFor();
      await entry("referral.attributed", "bob").waitFor();
      await act("Order");
      await entry("order.completed", "order-of-bob").waitFor();
      for (const side of ["referrer", "referee"]) {
        await entry("reward.issued", `bob:${side}`).waitFor();
        await entry("credit delivery", `bob:${side}`).waitFor();
        await page.locator("#life li.done", { hasText: `${side}'s credit, $10.00: delivered` }).waitFor();
      }
      // Wait for entries that should not come, such as a second delivery.
      const shown = async () => page.locator("#events li").count();
      const happened = async () => (await service.get("/_local/events")).length + (await service.get("/_local/deliveries")).length;
      await page.waitForFunction((many) => document.querySelectorAll("#events li").length === many, await happened());
      assert.equal(await entry("credit delivery").count(), 2);
      assert.equal(await shown(), await happened());
      const kinds = await page.locator("#events .kind").allTextContents();
      assert.deepEqual(kinds.slice(-3).reverse(), ["referral.attributed", "order.completed", "referral.converted"]);
      assert.ok(kinds.indexOf("reward.delivered") < kinds.indexOf("credit delivery"), kinds.join());
      assert.ok(kinds.lastIndexOf("credit delivery") < kinds.indexOf("reward.issued"), kinds.join());
      await act("Attribute");
      await page.getByText("Attribute: 200").waitFor();

      await entry("credit delivery", "bob:referee").locator("summary").press("Enter");
      await page.getByText('"idempotency-key": "bob:referee"').waitFor();
      await accessible(page);
      await fits(page);
      await picture(page, `live-${scheme}-${size}`);
      await end();
    });
  }
}

test("a refund while the rewards are held voids the referral", async () => {
  const { page, act, entry, end } = await live({ HOLD_SECONDS: "3600" });
  for (const name of ["Mint", "Attribute"]) {
    await act(name);
    await page.locator("#answer", { hasText: "201" }).waitFor();
  }
  await act("Order");
  await page.locator("#life li.done", { hasText: "Converted" }).waitFor();
  await act("Refund");
  await page.locator("#life li.wrong", { hasText: "Voided: order refunded" }).waitFor();
  await page.locator("#life summary").press("Enter");
  await page.locator("#life details li", { hasText: "adjusted: refunded (order-of-bob)" }).waitFor();
  await page.locator("#life details li", { hasText: "voided: voided (order refunded)" }).waitFor();
  await entry("referral.voided", "bob").waitFor();
  assert.equal(await entry("credit delivery").count(), 0);

  // A second referee.
  await act("Another referee");
  await page.getByText("No one has referred bob-2.").waitFor();
  await act("Attribute");
  await entry("referral.attributed", "bob-2").waitFor();
  await end();
});

test("a refusal shows its reason, and an unreachable service is reported", async () => {
  const { page, context, service, act } = await live({}, { expected: ["404", "409", "ERR_CONNECTION_REFUSED"] });
  await act("Attribute");
  await page.locator("#answer", { hasText: "Code of the referrer: 404" }).waitFor();
  await service.stop();
  await page.getByText("The service is not responding. Retrying.").waitFor();
  await act("Mint");
  await page.locator("#answer", { hasText: "The service is not responding." }).waitFor();
  await context.close();
});
