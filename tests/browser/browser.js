// Starts Chromium. Its pages must report no errors and must call only their own service.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PICTURES = process.env.PICTURES ?? new URL("../../target/ci/pictures/", import.meta.url).pathname;
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Window sizes. */
export const SIZES = { phone: { width: 360, height: 740 }, desk: { width: 1280, height: 900 } };

export const launch = () => chromium.launch({ executablePath: EXECUTABLE, args: ["--no-sandbox"] });

/** Opens a page and records its errors and every host that it calls. */
export async function open(browser, url, { scheme = "light", size = "desk", expected = [] } = {}) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: SIZES[size], locale: "en-GB", timezoneId: "UTC" });
  const page = await context.newPage();
  const problems = [];
  const hosts = new Set();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !expected.some((text) => message.text().includes(text))) {
      problems.push(message.text());
    }
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => {
    const called = new URL(request.url());
    if (called.protocol !== "data:") hosts.add(called.host);
  });
  await page.goto(url);
  return { page, context, problems, hosts, host: new URL(url).host };
}

/** The page reported no errors and called only its own service. */
export function calm({ problems, hosts, host }) {
  assert.deepEqual(problems, []);
  assert.deepEqual([...hosts], [host]);
}

/** The page is not wider than the window. */
export async function fits(page) {
  const { wide, window } = await page.evaluate(() =>
    ({ wide: document.documentElement.scrollWidth, window: document.documentElement.clientWidth }));
  assert.ok(wide <= window, `${wide} px in a window of ${window} px`);
}

/** The page meets WCAG up to version 2.2, levels A and AA. */
export async function accessible(page) {
  // Evaluated instead of added as a script, because the page's policy forbids foreign scripts.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() =>
    globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), []);
}

/** Saves a screenshot for manual review. */
export async function picture(page, name) {
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: `${PICTURES}/${name}.png`, fullPage: true });
}
