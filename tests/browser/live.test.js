// The live view: a referral's life by buttons, told while it happens.

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
  // Who has not been referred yet is not found, which Chromium reports.
  const opened = await open(browser, `${service.url}/_local/live`, { expected: ["404"], ...how });
  const act = (name) => opened.page.getByRole("button", { name, exact: true }).press("Enter");
  const news = (kind, what = "") =>
    opened.page.locator("#news li", { has: opened.page.locator(".kind", { hasText: new RegExp(`^${kind}$`) }), hasText: what });
  const end = async () => {
    calm(opened);
    await opened.context.close();
    await service.stop();
  };
  return { ...opened, service, act, news, end };
}

for (const scheme of ["light", "dark"]) {
  for (const size of Object.keys(SIZES)) {
    test(`mint, attribute and order lead to two deliveries, ${scheme}, on a ${size}`, async () => {
      const { page, service, act, news, end } = await live({}, { scheme, size });
      await page.getByText("Nobody has referred bob.").waitFor();
      await act("Mint");
      await page.getByText("201: the code of ada is").waitFor();
      await act("Attribute");
      await page.getByText("Attribute: 201").waitFor();
      await news("referral.attributed", "bob").waitFor();
      await act("Order");
      await news("order.completed", "order-of-bob").waitFor();
      for (const side of ["referrer", "referee"]) {
        await news("reward.issued", `bob:${side}`).waitFor();
        await news("credit delivery", `bob:${side}`).waitFor();
        await page.locator("#life li.done", { hasText: `${side}'s credit, 1000 USD: delivered` }).waitFor();
      }
      // A moment for whatever might still come, such as a second delivery.
      const told = async () => page.locator("#news li").count();
      const happened = async () => (await service.get("/_local/events")).length + (await service.get("/_local/deliveries")).length;
      await page.waitForFunction((many) => document.querySelectorAll("#news li").length === many, await happened());
      assert.equal(await news("credit delivery").count(), 2);
      assert.equal(await told(), await happened());
      const kinds = await page.locator("#news .kind").allTextContents();
      assert.deepEqual(kinds.slice(-3).reverse(), ["referral.attributed", "order.completed", "referral.converted"]);
      assert.ok(kinds.indexOf("reward.delivered") < kinds.indexOf("credit delivery"), kinds.join());
      assert.ok(kinds.lastIndexOf("credit delivery") < kinds.indexOf("reward.issued"), kinds.join());
      await act("Attribute");
      await page.getByText("Attribute: 200").waitFor();

      await news("credit delivery", "bob:referee").locator("summary").press("Enter");
      await page.getByText('"idempotency-key": "bob:referee"').waitFor();
      await accessible(page);
      await fits(page);
      await picture(page, `live-${scheme}-${size}`);
      await end();
    });
  }
}

test("a refund while the rewards are held voids the referral", async () => {
  const { page, act, news, end } = await live({ HOLD_SECONDS: "3600" });
  for (const name of ["Mint", "Attribute"]) {
    await act(name);
    await page.locator("#answer", { hasText: "201" }).waitFor();
  }
  await act("Order");
  await page.locator("#life li.done", { hasText: "Converted" }).waitFor();
  await act("Refund");
  await page.locator("#life li.wrong", { hasText: "Voided: order refunded" }).waitFor();
  await news("referral.voided", "bob").waitFor();
  assert.equal(await news("credit delivery").count(), 0);

  // And another life beside it.
  await act("Another referee");
  await page.getByText("Nobody has referred bob-2.").waitFor();
  await act("Attribute");
  await news("referral.attributed", "bob-2").waitFor();
  await end();
});

test("what was refused says why, and a service that is gone is missed", async () => {
  const { page, context, service, act } = await live({}, { expected: ["404", "409", "ERR_CONNECTION_REFUSED"] });
  await act("Attribute");
  await page.locator("#answer", { hasText: "Their code: 404" }).waitFor();
  await service.stop();
  await page.getByText("The service does not answer; trying again.").waitFor();
  await act("Mint");
  await page.locator("#answer", { hasText: "The service does not answer." }).waitFor();
  await context.close();
});
