// The figures on the operators' page against the API's answers.

import assert from "node:assert/strict";
import { days } from "./service.js";

/** What the page asks for, under the names that its figures go by. */
export async function answers(service, period = "") {
  const program = "/admin/programs/default";
  const [daily, referrers, liability, failed, parked] = await Promise.all([
    service.get(`${program}/daily?${days()}`),
    service.get(`${program}/referrers?limit=20${period && `&period=${period}`}`),
    service.get("/admin/liability"),
    service.get("/admin/rewards?status=failed&limit=20"),
    service.get("/admin/dead-letters"),
  ]);
  return { daily, referrers, liability, failed, parked };
}

/** What is at a place such as `daily.total.attributed`; a star stands for the sum of all that is there. */
function at(answers, place) {
  return place.split(".").reduce((value, name) => {
    assert.notEqual(value?.[name] ?? (name === "*" || name in value ? 0 : undefined), undefined, `the API has no ${place}`);
    return name === "*" ? Object.values(value).reduce((sum, part) => sum + part, 0) : value[name];
  }, answers);
}

/** Every figure that the page shows: its place, its value, and its text as people read it. */
const shown = (page) => page.$$eval("[data-of]", (all) =>
  all.map(({ dataset, textContent }) => ({ of: dataset.of, value: dataset.value, text: textContent })));

/** Each figure on the page is the API's, as a value and as it is read; and none of the API's totals is missing. */
export async function equal(page, answers) {
  const figures = await shown(page);
  for (const { of, value, text } of figures) {
    const expected = at(answers, of);
    assert.equal(value, String(expected), of);
    assert.equal(read(text), expected === null ? null : scaled(expected, of, text), `${of} reads ${text}`);
  }
  const places = new Set(figures.map(({ of }) => of));
  for (const place of required(answers)) assert.ok(places.has(place), `${place} is not shown`);
  const bare = await page.$$eval("td:not(.text, .words)", (cells) =>
    cells.filter((cell) => !cell.querySelector("[data-of]") && /\d/.test(cell.textContent)).map((cell) => cell.textContent));
  assert.deepEqual(bare, [], "figures that say not whose they are");
  return figures.length;
}

function required({ daily, referrers, liability, failed, parked }) {
  const rows = (list, name, ...figures) => list.flatMap((_, row) => figures.map((figure) => `${name}.${row}.${figure}`));
  return [
    ...["attributed", "converted", "rewarded", "converted_since", "conversion_rate"].map((name) => `daily.total.${name}`),
    ...Object.keys(daily.total.voided).map((reason) => `daily.total.voided.${reason}`),
    ...rows(daily.days, "daily.days", "figures.attributed", "figures.converted", "figures.rewarded"),
    ...rows(referrers.items, "referrers.items", "lasting", "attributed", "converted", "rewarded", "voided.*"),
    ...rows(liability.items, "liability.items", "held.amount", "issued.amount", "failed.amount", "total.amount"),
    ...rows(failed.items, "failed.items", "amount"),
    ...rows(parked.items, "parked.items", "messages"),
  ];
}

/** The number that people read; `null` for a dash. */
const read = (text) => (text === "–" ? null : Number(text.replace(/[^\d.-]/g, "")));

/** A value as it is shown: money in its major unit (tests pay in dollars), a share in per cent to two places. */
function scaled(value, of, text) {
  if (text.includes("%")) return Math.round(value * 10_000) / 100;
  return of.endsWith(".amount") && text.includes("$") ? value / 100 : value;
}

/** The lines of the plot, read off its grid, are the daily series. */
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
