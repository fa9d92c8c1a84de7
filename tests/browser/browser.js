// A Chromium, and pages in it that must neither complain nor ask anybody but their own service.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PICTURES = process.env.PICTURES ?? new URL("../../target/ci/pictures/", import.meta.url).pathname;
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What a phone has, and a desk. */
export const SIZES = { phone: { width: 360, height: 740 }, desk: { width: 1280, height: 900 } };

export const launch = () => chromium.launch({ executablePath: EXECUTABLE, args: ["--no-sandbox"] });

/** A page, with a list of whatever it complained of and every host that it asked. */
export async function open(browser, url, { scheme = "light", size = "desk", expected = [] } = {}) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: SIZES[size], locale: "en-GB", timezoneId: "UTC" });
  const page = await context.newPage();
  const complaints = [];
  const hosts = new Set();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !expected.some((words) => message.text().includes(words))) {
      complaints.push(message.text());
    }
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const asked = new URL(request.url());
    if (asked.protocol !== "data:") hosts.add(asked.host);
  });
  await page.goto(url);
  return { page, context, complaints, hosts, host: new URL(url).host };
}

/** The page complained of nothing and asked its own service alone. */
export function calm({ complaints, hosts, host }) {
  assert.deepEqual(complaints, []);
  assert.deepEqual([...hosts], [host]);
}

/** Nothing is wider than the window. */
export async function fits(page) {
  const { wide, window } = await page.evaluate(() =>
    ({ wide: document.documentElement.scrollWidth, window: document.documentElement.clientWidth }));
  assert.ok(wide <= window, `${wide} px in a window of ${window} px`);
}

/** Whoever sees little or hears the page finds all of it. The rules are WCAG's, levels A and AA, up to version 2.2. */
export async function accessible(page) {
  // Evaluated, not added as a script, which the page's policy forbids.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() =>
    globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), []);
}

/** Takes a picture for people to look at. */
export async function picture(page, name) {
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: `${PICTURES}/${name}.png`, fullPage: true });
}
