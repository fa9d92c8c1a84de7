// The operators' actions, each confirmed in the dialog, against a service with a hold and one without.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { accessible, calm, fits, launch, open, picture, SIZES } from "./browser.js";
import { answers, equal } from "./values.js";
import { Service, until } from "./service.js";

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

/** Opens the page and waits until all sections show their answers. */
async function dashboard(service, how) {
  const opened = await open(browser, `${service.url}/dashboard`, how);
  await opened.page.locator("#status", { hasText: "As of" }).waitFor();
  const posted = [];
  opened.page.on("request", (request) => {
    if (request.method() !== "GET") posted.push(`${request.method()} ${decodeURIComponent(new URL(request.url()).pathname)}`);
  });
  return { ...opened, posted };
}

const named = (page, name) => page.getByRole("button", { name, exact: true });
const alert = (page) => page.locator("#action-problem");
const confirm = (page) => named(page, "Confirm").click();
const title = (page) => page.evaluate(() => document.activeElement.closest("dialog, section").querySelector("h2").textContent);
const path = (referee) => `/admin/referrals/${encodeURIComponent(referee)}`;

/** Shows a referral with the form of its section. */
async function look(page, referee) {
  await page.getByLabel("Referee", { exact: true }).fill(referee);
  await page.keyboard.press("Enter");
  await page.locator(`#referral [data-of="referral.referee_id"][data-value="${referee}"]`).waitFor();
}

/** Opens the dialog of an action. Returns it. */
async function begin(page, name) {
  await named(page, name).first().click();
  const dialog = page.getByRole("dialog", { name, exact: true });
  await dialog.waitFor();
  return dialog;
}

/** Performs an action with these values of fields, by label. */
async function act(page, name, done, fields = { Reason: "support case 7" }) {
  const dialog = await begin(page, name);
  for (const [label, value] of Object.entries(fields)) await dialog.getByLabel(label).fill(value);
  await confirm(page);
  await page.locator("#status", { hasText: `${done} As of` }).waitFor();
  assert.equal(await dialog.isVisible(), false);
}

/** The referral on the page and in the API has this status. */
async function isNow(page, service, referee, status) {
  const referral = await service.get(path(referee));
  assert.equal(referral.status, status);
  await equal(page, { referral }, "#referral");
}

describe("while the rewards are held", () => {
  const HELD = 26;
  let service;
  before(async () => {
    service = await Service.start({ HOLD_SECONDS: "86400" });
    await service.refer({ referrals: 32, referrers: 32 });
    await service.order(Array.from({ length: HELD }, (_, at) => at));
    await service.rest(({ total }) => total.converted === HELD);
    const refunds = [24, 25].map((at) => ({ refund_id: `refund-${at}`, order_id: `order-${at}`, amount: 100, currency: "EUR" }));
    await service.publish("order.refunded", refunds);
    await until(async () => (await service.get("/admin/referrals?status=attention")).items.length === refunds.length);
  });
  after(() => service?.stop());

  for (const scheme of ["light", "dark"]) {
    for (const size of Object.keys(SIZES)) {
      test(`sections and dialog show the values of the API, ${scheme}, on a ${size}`, async () => {
        const opened = await dashboard(service, { scheme, size });
        const { page, context } = opened;
        const expected = await answers(service);
        assert.equal(expected.attention.items.length, 2);
        assert.ok(expected.held.items.length > 0);
        await equal(page, expected);
        const [{ referee_id: first }] = expected.held.items;
        await page.locator("#held").getByRole("button", { name: `${first}: show the referral`, exact: true }).click();
        await page.locator("#referral [data-of='referral.status']").waitFor();
        assert.equal(await title(page), "Referral");
        await equal(page, { ...expected, referral: await service.get(path(first)) });
        await picture(page, `actions-${scheme}-${size}`);
        await accessible(page);
        await fits(page);

        await look(page, "referee-26");
        const dialog = await begin(page, "Convert the referral of referee-26");
        await picture(page, `action-${scheme}-${size}`);
        await accessible(page);
        await fits(page);
        await dialog.getByRole("button", { name: "Cancel" }).click();
        calm(opened);
        await context.close();
      });
    }
  }

  test("the list of held referrals loads page by page", async () => {
    const { page, context } = await dashboard(service);
    const more = page.locator("#held").getByRole("button", { name: "Show more" });
    const held = await service.get("/admin/referrals?status=held&limit=20");
    for (let next = held.next_cursor; next; ) {
      const following = await service.get(`/admin/referrals?status=held&limit=20&cursor=${encodeURIComponent(next)}`);
      held.items.push(...following.items);
      next = following.next_cursor;
      await more.click();
      await page.waitForFunction(([rows, last]) => document.querySelectorAll("#held tbody tr").length === rows
        && document.querySelector("#held .more").hidden === last && !document.querySelector("#held .more").disabled, [held.items.length, next === null]);
    }
    assert.ok(held.items.length >= HELD - 2, `${held.items.length} held`);
    await equal(page, { held }, "#held");
    await context.close();
  });

  test("a held referral is voided and reopened", async () => {
    const opened = await dashboard(service);
    const { page, context, posted } = opened;
    await look(page, "referee-1");
    assert.equal(await named(page, "Reopen the referral of referee-1").count(), 0);
    await act(page, "Void the referral of referee-1", "Voided the referral of referee-1.", { Reason: " duplicate account " });
    await isNow(page, service, "referee-1", "voided");
    assert.equal(await page.locator("#referral [data-of='referral.notes.0.reason']").textContent(), "duplicate account");
    const { held } = await answers(service);
    assert.ok(!held.items.some(({ referee_id }) => referee_id === "referee-1"));
    await equal(page, { held }, "#held");
    assert.equal(await named(page, "Void the referral of referee-1").count(), 0);
    await act(page, "Reopen the referral of referee-1", "Reopened the referral of referee-1.");
    await isNow(page, service, "referee-1", "converted");
    assert.deepEqual(posted, [`POST ${path("referee-1")}/void`, `POST ${path("referee-1")}/reopen`]);
    calm(opened);
    await context.close();
  });

  test("a pending referral is converted by an order, with and without an amount", async () => {
    const opened = await dashboard(service, { expected: ["422"] });
    const { page, context } = opened;
    const fields = { "Order id": "phone-order-1", "Amount paid": "4200", "Currency of the amount": "usd", Reason: "ordered by phone" };
    await look(page, "referee-27");
    await act(page, "Convert the referral of referee-27", "Converted the referral of referee-27.", fields);
    await isNow(page, service, "referee-27", "converted");
    assert.equal(await page.locator("#referral [data-of='referral.order_id']").textContent(), "phone-order-1");
    assert.equal(await named(page, "Convert the referral of referee-27").count(), 0);
    await look(page, "referee-28");
    const minimal = { "Order id": "phone-order-2", Reason: "ordered by phone" };
    await act(page, "Convert the referral of referee-28", "Converted the referral of referee-28.", minimal);
    await isNow(page, service, "referee-28", "converted");
    calm(opened);
    await context.close();
  });

  test("flags stop a reopening, whose dialog shows the problem, and clearances allow it", async () => {
    const opened = await dashboard(service, { expected: ["409"] });
    const { page, context } = opened;
    const reason = { reason: "test" };
    await look(page, "referee-2");
    await act(page, "Void the referral of referee-2", "Voided the referral of referee-2.");
    for (const user of ["referee-2", "referrer-2"]) {
      await act(page, `Flag ${user}`, `Flagged ${user}.`, { Reason: "stolen cards" });
      const dialog = await begin(page, "Reopen the referral of referee-2");
      await dialog.getByLabel("Reason", { exact: true }).fill("they called");
      await confirm(page);
      await alert(page).filter({ hasText: /./ }).waitFor();
      const refused = await fetch(`${service.url}${path("referee-2")}/reopen`, { method: "POST", body: JSON.stringify(reason) });
      const problem = await refused.json();
      assert.equal(problem.reason, "rule_broken");
      assert.equal(await alert(page).textContent(), problem.detail);
      await accessible(page);
      await page.keyboard.press("Escape");
      await dialog.waitFor({ state: "hidden" });
      await act(page, `Clear ${user}`, `Cleared ${user}.`);
    }
    // Without a flag it succeeds, and the problem of before is gone.
    const dialog = await begin(page, "Reopen the referral of referee-2");
    assert.equal(await alert(page).textContent(), "");
    await dialog.getByLabel("Reason", { exact: true }).fill("they called");
    await confirm(page);
    await page.locator("#status", { hasText: "Reopened the referral of referee-2." }).waitFor();
    await isNow(page, service, "referee-2", "converted");
    calm(opened);
    await context.close();
  });

  test("a referral with a refund in another currency is approved, and another one voided", async () => {
    const opened = await dashboard(service);
    const { page, context } = opened;
    await act(page, "Approve the referral of referee-24", "Approved the referral of referee-24.");
    const approved = await service.get(path("referee-24"));
    assert.deepEqual([approved.attention, approved.status, approved.notes.at(-1).action], [null, "converted", "approve"]);
    const { attention } = await answers(service);
    assert.deepEqual(attention.items.map(({ referee_id }) => referee_id), ["referee-25"]);
    await equal(page, { attention }, "#attention");
    await act(page, "Void the referral of referee-25", "Voided the referral of referee-25.");
    assert.equal((await service.get(path("referee-25"))).status, "voided");
    await page.getByText("No referral needs a decision.").waitFor();
    calm(opened);
    await context.close();
  });

  test("cancelling does nothing, and an empty reason cannot be confirmed", async () => {
    const opened = await dashboard(service);
    const { page, context, posted } = opened;
    await look(page, "referee-3");
    const name = "Void the referral of referee-3";
    for (const cancel of [() => named(page, "Cancel").click(), () => page.keyboard.press("Escape")]) {
      const dialog = await begin(page, name);
      await dialog.getByLabel("Reason", { exact: true }).fill("a mistake");
      await cancel();
      await dialog.waitFor({ state: "hidden" });
    }
    const dialog = await begin(page, name);
    assert.equal(await dialog.getByLabel("Reason", { exact: true }).inputValue(), "");
    for (const reason of ["", "   "]) {
      await dialog.getByLabel("Reason", { exact: true }).fill(reason);
      await confirm(page);
      assert.ok(await dialog.isVisible());
      assert.ok(await dialog.getByLabel("Reason", { exact: true }).evaluate((input) => !input.validity.valid));
    }
    await named(page, "Cancel").click();
    assert.deepEqual(posted, []);
    assert.deepEqual((await service.get(path("referee-3"))).notes, []);
    calm(opened);
    await context.close();
  });

  test("the focus moves into the dialog and back", async () => {
    const { page, context } = await dashboard(service);
    await look(page, "referee-4");
    const button = named(page, "Void the referral of referee-4");
    const isFocused = (place) => place.evaluate((element) => element === document.activeElement);
    await button.focus();
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog", { name: "Void the referral of referee-4" });
    const reason = dialog.getByLabel("Reason", { exact: true });
    assert.ok(await isFocused(reason));
    await page.keyboard.press("Tab");
    assert.ok(await isFocused(named(page, "Confirm")));
    await page.keyboard.press("Tab");
    assert.ok(await isFocused(named(page, "Cancel")));
    await page.keyboard.press("Enter");
    await dialog.waitFor({ state: "hidden" });
    assert.ok(await isFocused(button));
    await page.keyboard.press("Space");
    await page.keyboard.type("by keyboard");
    await page.keyboard.press("Enter");
    await page.locator("#status", { hasText: "Voided the referral of referee-4. As of" }).waitFor();
    await page.waitForFunction(() => document.activeElement.id === "referral-title");
    await context.close();
  });

  test("an unknown referee shows the problem, and the other sections stay", async () => {
    const { page, context } = await dashboard(service, { expected: ["404"] });
    await page.getByLabel("Referee", { exact: true }).fill("somebody-else");
    await page.keyboard.press("Enter");
    const answer = await fetch(`${service.url}${path("somebody-else")}`);
    assert.equal(answer.status, 404);
    const problem = page.locator("#referral [role=alert]");
    await problem.waitFor();
    assert.equal(await problem.textContent(), (await answer.json()).detail);
    assert.ok((await page.locator("#held tbody tr").count()) > 0);
    await context.close();
  });
});

describe("after the issue", () => {
  let service;
  const script = (...answers) => service.call("PUT", "/_local/subsystems/credit/script", { answers });
  const delivered = (referee) => until(async () =>
    (await service.get(path(referee))).rewards.filter(({ status }) => status === "delivered").length === 2);
  before(async () => {
    service = await Service.start();
    await service.refer({ referrals: 3, referrers: 3 });
    // The rewards of the first two are delivered. Both reversals of the first are refused, and one reward of the third.
    await service.order([0, 1]);
    await Promise.all(["referee-0", "referee-1"].map(delivered));
    await script(400, 400);
    await service.publish("order.cancelled", [{ order_id: "order-0" }]);
    await until(async () => (await service.get("/admin/reversals?status=failed")).items.length === 2);
    await script(400);
    await service.order([2]);
    await service.rest(({ total, owed }) => total.rewarded === 3 && total.voided.order_cancelled === 1 && owed === 1);
  });
  after(() => service?.stop());

  test("the sections show the values of the API", async () => {
    const opened = await dashboard(service);
    const { page, context } = opened;
    const expected = await answers(service);
    assert.deepEqual([expected.failed.items.length, expected.reversals.items.length], [1, 2]);
    await equal(page, expected);
    await page.locator("#reversals").getByRole("button", { name: "referee-0:referee:reversal: show the referral", exact: true }).click();
    await page.locator("#referral [data-of='referral.status']").waitFor();
    await isNow(page, service, "referee-0", "voided");
    assert.deepEqual(await page.locator("#referral .actions > button").evaluateAll((all) => all.map(({ textContent }) => textContent)),
      ["Flag", "Clear", "Flag", "Clear"]);
    await accessible(page);
    await fits(page);
    await picture(page, "actions-reversals");
    calm(opened);
    await context.close();
  });

  test("a failed reversal and a failed reward are sent again, without a reason", async () => {
    const opened = await dashboard(service);
    const { page, context, posted } = opened;
    const [reversal, reward] = ["referee-0:referrer:reversal", (await answers(service)).failed.items[0].reward_id];
    const dialog = await begin(page, `Resend ${reversal}`);
    assert.equal(await dialog.getByLabel("Reason", { exact: true }).isVisible(), false);
    await accessible(page);
    await confirm(page);
    await page.locator("#status", { hasText: `Resent ${reversal}. As of` }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("#reversals tbody tr").length === 1);
    await act(page, `Resend ${reward}`, `Resent ${reward}.`, {});
    await page.getByText("No failed rewards.").waitFor();
    assert.deepEqual(posted, [`POST /admin/reversals/${reversal}/resend`, `POST /admin/rewards/${reward}/resend`]);
    await delivered("referee-2");
    const calls = async () => (await service.get("/_local/deliveries")).filter(({ headers }) => headers["idempotency-key"] === reversal);
    await until(async () => (await calls()).length === 2);
    calm(opened);
    await context.close();
  });

  test("a reversal that was delivered meanwhile is refused in the dialog", async () => {
    const opened = await dashboard(service, { expected: ["409"] });
    const { page, context } = opened;
    const reversal = "referee-0:referee:reversal";
    await begin(page, `Resend ${reversal}`);
    await service.call("POST", `/admin/reversals/${reversal}/resend`);
    await until(async () => (await service.get("/admin/reversals?status=issued")).items.length === 0);
    await confirm(page);
    await alert(page).filter({ hasText: "delivered" }).waitFor();
    await named(page, "Cancel").click();
    calm(opened);
    await context.close();
  });

  test("voiding takes the rewards back", async () => {
    const opened = await dashboard(service);
    const { page, context } = opened;
    await look(page, "referee-1");
    await isNow(page, service, "referee-1", "rewarded");
    const dialog = await begin(page, "Void the referral of referee-1");
    assert.match(await dialog.locator("#action-effect").textContent(), /taken back/);
    await dialog.getByLabel("Reason", { exact: true }).fill("fraud");
    await confirm(page);
    await page.locator("#status", { hasText: "Voided the referral of referee-1. As of" }).waitFor();
    await until(async () => {
      const { rewards, void_reason } = await service.get(path("referee-1"));
      return void_reason === "operator" && rewards.every(({ status, amount, reversed_amount }) => status === "reversed" && amount === reversed_amount);
    });
    await look(page, "referee-1");
    await page.locator("#referral [data-value='reversed']").first().waitFor();
    await isNow(page, service, "referee-1", "voided");
    calm(opened);
    await context.close();
  });
});
