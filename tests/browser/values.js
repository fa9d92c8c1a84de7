// Compares the values on the dashboard with the API's answers.

import assert from "node:assert/strict";
import { days } from "./service.js";

/** The answers to the dashboard's calls, under the names that it uses in `data-of`. */
export async function answers(service, period = "") {
  const program = "/admin/programs/default";
  const [daily, referrers, liability, failed, dead_letters] = await Promise.all([
    service.get(`${program}/daily?${days()}`),
    service.get(`${program}/referrers?limit=20${period && `&period=${period}`}`),
    service.get("/admin/liability"),
    service.get("/admin/rewards?status=failed&limit=20"),
    service.get("/admin/dead-letters"),
  ]);
  return { daily, referrers, liability, failed, dead_letters };
}

/** The value at a path such as `daily.total.attributed`; a star means the sum of all entries. */
function at(answers, place) {
  return place.split(".").reduce((value, name) => {
    assert.notEqual(value?.[name] ?? (name === "*" || name in value ? 0 : undefined), undefined, `the API has no ${place}`);
    return name === "*" ? Object.values(value).reduce((sum, part) => sum + part, 0) : value[name];
  }, answers);
}

/** Every value that the page shows: its path, the value, and the text. */
const shown = (page) => page.$$eval("[data-of]", (all) =>
  all.map(({ dataset, textContent }) => ({ of: dataset.of, value: dataset.value, text: textContent })));

/** Each value on the page equals the API's, as data and as text, and no required value is missing. */
export async function equal(page, answers) {
  const values = await shown(page);
  for (const { of, value, text } of values) {
    const expected = at(answers, of);
    assert.equal(value, String(expected), of);
    assert.equal(read(text), expected === null ? null : scaled(expected, of, text), `${of} reads ${text}`);
  }
  const places = new Set(values.map(({ of }) => of));
  for (const place of required(answers)) assert.ok(places.has(place), `${place} is not shown`);
  const bare = await page.$$eval("td:not(.text, .words)", (cells) =>
    cells.filter((cell) => !cell.querySelector("[data-of]") && /\d/.test(cell.textContent)).map((cell) => cell.textContent));
  assert.deepEqual(bare, [], "values without a path");
  return values.length;
}

function required({ daily, referrers, liability, failed, dead_letters }) {
  const rows = (list, name, ...fields) => list.flatMap((_, row) => fields.map((field) => `${name}.${row}.${field}`));
  return [
    ...["attributed", "converted", "rewarded", "converted_since", "conversion_rate"].map((name) => `daily.total.${name}`),
    ...Object.keys(daily.total.voided).map((reason) => `daily.total.voided.${reason}`),
    ...rows(daily.days, "daily.days", "figures.attributed", "figures.converted", "figures.rewarded"),
    ...rows(referrers.items, "referrers.items", "net_conversions", "attributed", "converted", "rewarded", "voided.*"),
    ...rows(liability.items, "liability.items", "held.amount", "issued.amount", "failed.amount", "total.amount"),
    ...rows(failed.items, "failed.items", "amount"),
    ...rows(dead_letters.items, "dead_letters.items", "messages"),
  ];
}

/** The number in a text; `null` for a dash. */
const read = (text) => (text === "–" ? null : Number(text.replace(/[^\d.-]/g, "")));

/** A value as the page shows it: money in its major unit (tests use dollars), a share in percent with two decimals. */
function scaled(value, of, text) {
  if (text.includes("%")) return Math.round(value * 10_000) / 100;
  return of.endsWith(".amount") && text.includes("$") ? value / 100 : value;
}

/** The lines of the plot, read from its grid, equal the daily series. */
export async function plotted(page, { days }) {
  const { grid, lines } = await page.$eval(".plot", (svg) => {
    const y = (line) => Number(line.getAttribute("y1"));
    const labels = Array.from(svg.querySelectorAll("text[text-anchor=end][x]"), (text) => text.textContent);
    return {
      grid: Array.from(svg.querySelectorAll(".grid"), (line, at) => [y(line), labels[at]]),
      lines: Array.from(svg.querySelectorAll("polyline"), (line) => [
        line.classList[1], line.getAttribute("points").split(" ").map((point) => Number(point.split(",")[1])),
      ]),
    };
  });
  const [[bottom], [top, largest]] = [grid[0], grid.at(-1)];
  for (const [name, points] of lines) {
    const values = points.map((y) => Math.round(((bottom - y) / (bottom - top)) * read(largest)));
    assert.deepEqual(values, days.map(({ figures }) => figures[name]), name);
  }
  assert.equal(lines.length, 3);
}
