// Compares the values on the dashboard with the API's answers.

import assert from "node:assert/strict";
import { days } from "./service.js";

/** The answers to the dashboard's calls, under the names that it uses in `data-of`. */
export async function answers(service, period = "") {
  const program = "/admin/programs/default";
  const [daily, referrers, liability, failed, reversals, held, attention, dead_letters] = await Promise.all([
    service.get(`${program}/daily?${days()}`),
    service.get(`${program}/referrers?limit=20${period && `&period=${period}`}`),
    service.get("/admin/liability"),
    service.get("/admin/rewards?status=failed&limit=20"),
    service.get("/admin/reversals?status=failed&limit=20"),
    service.get("/admin/referrals?status=held&limit=20"),
    service.get("/admin/referrals?status=attention&limit=20"),
    service.get("/admin/dead-letters"),
  ]);
  return { daily, referrers, liability, failed, reversals, held, attention, dead_letters };
}

/** The value at a path such as `daily.total.attributed`; a star means the sum of all entries. */
function at(answers, place) {
  return place.split(".").reduce((value, name) => {
    assert.notEqual(value?.[name] ?? (name === "*" || name in value ? 0 : undefined), undefined, `the API has no ${place}`);
    return name === "*" ? Object.values(value).reduce((sum, part) => sum + part, 0) : value[name];
  }, answers);
}

/** Every value that this part of the page shows: its path, the value, and the text. */
const shown = (page, part) => page.$$eval(`${part} [data-of]`, (all) =>
  all.map(({ dataset, textContent }) => ({ of: dataset.of, value: dataset.value, text: textContent })));

/** Each value on this part of the page equals the API's, as data and as text, and no required value of these answers is missing. */
export async function equal(page, answers, part = "main") {
  const values = await shown(page, part);
  for (const { of, value, text } of values) {
    const expected = at(answers, of);
    assert.equal(value, String(expected), of);
    if (typeof expected === "string") assert.equal(text, textOf(expected, of), of);
    else assert.equal(read(text), expected === null ? null : scaled(expected, of, text), `${of} reads ${text}`);
  }
  const places = new Set(values.map(({ of }) => of));
  for (const place of required(answers)) assert.ok(places.has(place), `${place} is not shown`);
  const bare = await page.$$eval(`${part} td:not(.text, .words)`, (cells) =>
    cells.filter((cell) => !cell.querySelector("[data-of]") && /\d/.test(cell.textContent)).map((cell) => cell.textContent));
  assert.deepEqual(bare, [], "values without a path");
  return values.length;
}

/** The fields of each list that the page shows. */
const LISTS = {
  referrers: ["net_conversions", "attributed", "converted", "rewarded", "voided.*"],
  liability: ["held.amount", "issued.amount", "failed.amount", "total.amount"],
  failed: ["reward_id", "user_id", "amount", "failed_at", "failure"],
  reversals: ["reversal_id", "user_id", "amount", "failed_at", "failure"],
  held: ["referee_id", "referrer_id", "order_id", "converted_at", "due_at"],
  attention: ["referee_id", "order_id", "attention"],
  dead_letters: ["messages"],
};

/** The fields of a referral that the page shows. */
const REFERRAL = [
  "referee_id", "referrer_id", "status", "attention", "code", "program", "created_at", "order_id", "conversion_event", "converted_at",
  "due_at", "rewarded_at", "voided_at", "void_reason",
];

function required({ daily, referral, ...lists }) {
  const rows = (list, name, fields) => list.flatMap((_, row) => fields.map((field) => `${name}.${row}.${field}`));
  const ofDaily = daily && [
    ...["attributed", "converted", "rewarded", "converted_since", "conversion_rate"].map((name) => `daily.total.${name}`),
    ...Object.keys(daily.total.voided).map((reason) => `daily.total.voided.${reason}`),
    ...rows(daily.days, "daily.days", ["figures.attributed", "figures.converted", "figures.rewarded"]),
  ];
  const ofReferral = referral && [
    ...REFERRAL.map((field) => `referral.${field}`),
    ...rows(referral.rewards, "referral.rewards", ["reward_id", "type", "amount", "reversed_amount", "status", "delivered_at"]),
    ...rows(referral.notes, "referral.notes", ["at", "action", "reason", "operator"]),
  ];
  const ofLists = Object.entries(lists).flatMap(([name, { items }]) => rows(items, `${name}.items`, LISTS[name]));
  return [...(ofDaily ?? []), ...(ofReferral ?? []), ...ofLists];
}

const WHY = {
  refund_in_other_currency: "A refund has another currency than its order.",
  too_many_adjustments: "The order has more refunds and other adjustments than the service stores.",
  order_stands_again: "The order stands again after its rewards were taken back.",
};

/** A text as the page shows it: a time without seconds, a name of the API with spaces, anything else as it is. */
function textOf(value, of) {
  const field = of.split(".").at(-1);
  if (field === "at" || field.endsWith("_at")) return value.slice(0, 16).replace("T", " ");
  if (field === "attention") return WHY[value];
  return ["status", "void_reason", "type", "action"].includes(field) ? value.replaceAll("_", " ") : value;
}

/** The number in a text; `null` for a dash. */
const read = (text) => (text === "–" ? null : Number(text.replace(/[^\d.-]/g, "")));

/** A value as the page shows it: money in its major unit (tests use dollars), a share in percent with two decimals. */
function scaled(value, of, text) {
  if (text.includes("%")) return Math.round(value * 10_000) / 100;
  return /[._]amount$/.test(of) && text.includes("$") ? value / 100 : value;
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
