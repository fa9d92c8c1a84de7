// The dashboard by keyboard, and with refused queries.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { calm, launch, open } from "./browser.js";
import { Service } from "./service.js";

let browser, service;
before(async () => {
  service = await Service.start();
  await service.refer({ referrals: 1, referrers: 1 });
  await service.order([0]);
  await service.rest(({ total, owed }) => total.rewarded === 1 && owed === 0);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await service?.stop();
});

const status = (page, words) =>
  page.waitForFunction((words) => document.querySelector("#status").textContent.startsWith(words), words);
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.name || document.activeElement.className.baseVal);

test("everything can be reached and used by keyboard", async () => {
  const opened = await open(browser, `${service.url}/dashboard`, { expected: ["404"] });
  const { page } = opened;
  await status(page, "As of");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "content");

  await page.locator(".plot").focus();
  const readout = page.locator(".readout");
  const today = new Date().toISOString().slice(0, 10);
  assert.equal(await readout.textContent(), `${today}: 1 attributed, 1 converted, 1 rewarded`);
  await page.keyboard.press("ArrowLeft");
  assert.match(await readout.textContent(), /: 0 attributed, 0 converted, 0 rewarded$/);
  await page.keyboard.press("Home");
  await page.keyboard.press("End");
  assert.ok((await readout.textContent()).startsWith(today));

  // Back to the form by keyboard: a program that does not exist, then Enter.
  await page.locator("[name=program]").focus();
  await page.keyboard.press("Control+A");
  await page.keyboard.type("other");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => location.search.includes("program=other"));
  await page.getByText("Some data could not be loaded.").waitFor();
  calm(opened);
  await opened.context.close();
});

test("every tab stop is visible", async () => {
  const { page, context } = await open(browser, `${service.url}/dashboard`);
  await status(page, "As of");
  const seen = new Set();
  for (let stop = 0; stop < 60; stop += 1) {
    await page.keyboard.press("Tab");
    const look = await page.evaluate(() => {
      const { activeElement: on } = document;
      if (on === document.body) return null;
      const { outlineStyle, outlineWidth } = getComputedStyle(on);
      const { width, height } = on.getBoundingClientRect();
      return { what: on.outerHTML.slice(0, 80), ring: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2, width, height };
    });
    if (look === null) break;
    assert.ok(look.ring && look.width > 0 && look.height > 0, look.what);
    seen.add(look.what);
  }
  assert.ok(seen.size >= 10, `${seen.size} stops`);
  await context.close();
});

test("a refused query shows the problem, and the other sections show their data", async () => {
  const opened = await open(browser, `${service.url}/dashboard?from=2026-02-30`, { expected: ["400", "does not conform"] });
  await status(opened.page, "As of");
  await opened.page.goto(`${service.url}/dashboard?from=2026-03-02&to=2026-03-01`);
  await status(opened.page, "Some data");
  const problem = await opened.page.locator("#daily [role=alert]").textContent();
  const answer = await fetch(`${service.url}/admin/programs/default/daily?from=2026-03-02&to=2026-03-01`);
  assert.equal(problem, (await answer.json()).detail);
  assert.equal(await opened.page.locator("#referrers tbody tr").count(), 1);
  calm(opened);
  await opened.context.close();
});
