// Both pages show money with the digits of ISO 4217, which are not the browser's for every currency.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { calm, launch, open } from "./browser.js";
import { Service } from "./service.js";

/** What 123456 minor units are. XYZ is no currency, so the digits are not known. */
const SHOWN = {
  HUF: "HUF 1,234.56",
  IQD: "IQD 123.456",
  JPY: "¥123,456",
  KWD: "KWD 123.456",
  MGA: "MGA 1,234.56",
  XYZ: "123,456 minor units of XYZ",
};

/** The text, with plain spaces. */
const plain = (text) => text.replaceAll("\u00a0", " ");

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

for (const [currency, expected] of Object.entries(SHOWN)) {
  describe(`rewards in ${currency}`, () => {
    let service;
    before(async () => {
      service = await Service.start({ CURRENCY: currency, REFERRER_REWARD_AMOUNT: "123456", REFEREE_REWARD_TYPE: "points" });
      // The referrer's reward is refused, so that it is also owed and in the list of failed rewards.
      await service.call("PUT", "/_local/subsystems/credit/script", { answers: [400] });
      await service.refer({ referrals: 1, referrers: 1 });
      await service.order([0], currency);
      await service.rest(({ total, owed }) => total.rewarded === 1 && owed === 1);
    });
    after(() => service?.stop());

    test("the dashboard", async () => {
      const opened = await open(browser, `${service.url}/dashboard`);
      const { page, context } = opened;
      await page.waitForFunction(() => document.querySelector("#status").textContent.startsWith("As of"));
      for (const place of ["liability.items.0.failed.amount", "referrers.items.0.rewards.0.issued.amount", "failed.items.0.amount"]) {
        const shown = page.locator(`[data-of="${place}"]`);
        assert.equal(plain(await shown.textContent()), expected, place);
        assert.equal(await shown.getAttribute("data-value"), "123456", place);
      }
      calm(opened);
      await context.close();
    });

    test("the live view", async () => {
      const opened = await open(browser, `${service.url}/_local/live`, { expected: ["404"] });
      const { page, context } = opened;
      await page.locator("input[name=referee]").fill("referee-0");
      await page.locator("#life li", { hasText: "referrer's credit" }).waitFor();
      assert.equal(plain(await page.locator("#life li", { hasText: "referrer's credit" }).textContent()).split(": ")[0],
        `referrer's credit, ${expected}`);
      const entry = page.locator("#events li", { has: page.locator(".kind", { hasText: "reward.failed" }) });
      assert.match(plain(await entry.locator(".what").textContent()), new RegExp(`\\(referrer, ${expected.replace(".", "\\.")}\\)$`));
      calm(opened);
      await context.close();
    });
  });
}
