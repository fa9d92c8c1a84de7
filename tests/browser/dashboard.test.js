// The dashboard with no referrals, with one and with ten thousand.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { accessible, calm, fits, launch, open, picture, SIZES } from "./browser.js";
import { answers, equal, plotted } from "./values.js";
import { days, Service } from "./service.js";

const MANY = Number(process.env.REFERRALS ?? 10_000);

/** The data of each service, and how to detect that all of it is processed. */
const FILLS = {
  0: { fill: async () => {}, rested: () => true },
  1: {
    async fill(service) {
      await service.refer({ referrals: 1, referrers: 1 });
      await service.order([0]);
    },
    rested: ({ total, owed }) => total.rewarded === 1 && owed === 0,
  },
  [MANY]: {
    async fill(service) {
      // Twenty-five rewards fail, and one referrer is flagged.
      await service.call("PUT", "/_local/subsystems/credit/script", { answers: Array(25).fill(400) });
      await service.refer({ referrals: MANY, referrers: 100 });
      await service.publish("account.flagged", [{ user_id: "referrer-7", reason: "stolen cards" }]);
      await service.order(ordered());
    },
    rested: ({ total, owed }) =>
      total.rewarded + (total.voided.referrer_flagged ?? 0) === ordered().length && owed === 25,
  },
};

/** One in five referees orders, equally many per referrer. */
const ordered = () => Array.from({ length: MANY }, (_, at) => at).filter((at) => (at + Math.floor(at / 100)) % 5 === 0);

/** Opens the page and waits until all sections show their answers. */
async function dashboard(browser, service, how) {
  const opened = await open(browser, `${service.url}/dashboard`, how);
  await answered(opened.page);
  return opened;
}

const answered = (page) => page.waitForFunction(() =>
  document.querySelector("#status").textContent.startsWith("As of") && !document.querySelector("[aria-busy]"));

for (const [referrals, { fill, rested }] of Object.entries(FILLS)) {
  describe(`with ${referrals} referrals`, () => {
    let browser, service;
    before(async () => {
      service = await Service.start();
      await fill(service);
      await service.rest(rested);
      browser = await launch();
    });
    after(async () => {
      await browser?.close();
      await service?.stop();
    });

    for (const scheme of ["light", "dark"]) {
      for (const size of Object.keys(SIZES)) {
        test(`it shows the values of the API, ${scheme}, on a ${size}`, async () => {
          const opened = await dashboard(browser, service, { scheme, size });
          const { page, context } = opened;
          const expected = await answers(service);
          assert.equal(expected.daily.total.attributed, Number(referrals));
          await equal(page, expected);
          if (referrals > 0) await plotted(page, expected.daily);
          await picture(page, `dashboard-${referrals}-${scheme}-${size}`);
          await accessible(page);
          await fits(page);
          calm(opened);
          await context.close();
        });
      }
    }

    test("the leaderboard of all time loads page by page", async () => {
      const { page, context } = await dashboard(browser, service);
      await page.getByRole("radio", { name: "All time" }).check();
      await answered(page);
      const expected = await answers(service, "all");
      await equal(page, expected);
      if (expected.referrers.next_cursor) {
        const second = `/admin/programs/default/referrers?limit=20&period=all&cursor=${expected.referrers.next_cursor}`;
        expected.referrers.items.push(...(await service.get(second)).items);
        await page.locator("#referrers").getByRole("button", { name: "Show more" }).click();
        await page.waitForFunction((rows) => document.querySelectorAll("#referrers tbody tr").length === rows, expected.referrers.items.length);
        await equal(page, expected);
      }
      assert.equal(expected.referrers.items.length, Math.min(40, referrals));
      await context.close();
    });

    test("the daily counters are saved as the API's CSV", async () => {
      const { page, context } = await dashboard(browser, service);
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Save as CSV" }).click()]);
      assert.equal(download.suggestedFilename(), "daily-default.csv");
      const saved = await (await download.createReadStream()).toArray();
      const api = await fetch(`${service.url}/admin/programs/default/daily?${days()}&format=csv`);
      assert.equal(Buffer.concat(saved).toString(), await api.text());
      await context.close();
    });
  });
}
