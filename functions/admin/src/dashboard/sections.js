// Renders the sections of the analytics and of the dead letters.

import { save } from "./api.js";
import { amount, button, count, element, none, share, sum, table, words } from "./elements.js";
import { paged } from "./paged.js";
import { SERIES, legend, plot } from "./plot.js";

export function funnel({ total }) {
  const largest = Math.max(1, ...SERIES.map((name) => total[name]));
  const stages = SERIES.map((name) => {
    const bar = element("div", { class: "bar" });
    bar.style.inlineSize = `${(total[name] / largest) * 100}%`;
    const track = element("div", { class: "track" }, ...(total[name] > 0 ? [bar] : []));
    return element("div", { class: `stage ${name}` }, element("span", {}, name), track,
      element("strong", {}, count(total[name], `daily.total.${name}`)));
  });
  const rate = element("p", { class: "rate" }, "Conversion rate: ",
    share(total.conversion_rate, "daily.total.conversion_rate"), " (",
    count(total.converted_since, "daily.total.converted_since"), " of the referrals attributed in this period have converted since).");
  const reasons = Object.entries(total.voided);
  const voided = table("Voided, by reason", [["Reason"], ["Referrals"]],
    reasons.map(([reason, many]) => [words(reason), count(many, `daily.total.voided.${reason}`)]));
  return [...stages, rate, reasons.length > 0 ? voided.whole : none("No referrals were voided in this period.")];
}

export function daily(answer, { program, from, to }) {
  const { days } = answer;
  const rows = days.map(({ date, figures }, at) =>
    [date, ...SERIES.map((name) => count(figures[name], `daily.days.${at}.figures.${name}`))]);
  const { whole } = table("Counters by day", [["Day"], ...SERIES.map((name) => [name])], rows);
  const tools = element("div", { class: "tools" },
    element("details", {}, element("summary", {}, "Show as table"), whole),
    button("Save as CSV", () => save(`programs/${encodeURIComponent(program)}/daily`, { from, to }, `daily-${program}.csv`), "quiet"));
  if (days.every(({ figures }) => SERIES.every((name) => figures[name] === 0))) {
    return [none("No activity in this period."), tools];
  }
  const readout = element("output", { class: "readout" });
  const frame = element("div");
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.max(280, Math.round(contentRect.width));
    if (frame.firstChild?.viewBox?.baseVal.width === width) return;
    frame.replaceChildren(plot(days, width, (day) => (readout.textContent = day)));
  }).observe(frame);
  return [legend(), frame, readout, tools];
}

export const referrers = (first, { program, period }) => paged(first, {
  title: "Ranked by net conversions: converted and not voided",
  columns: [["Referrer"], ["Net conversions"], ["Attributed"], ["Converted"], ["Rewarded"], ["Voided"], ["Issued"], ["Delivered"]],
  path: `programs/${encodeURIComponent(program)}/referrers`,
  parameters: { period, limit: 20 },
  empty: "No net conversions in this period.",
  row: (item, at) => {
    const of = `referrers.items.${at}`;
    const counts = ["net_conversions", "attributed", "converted", "rewarded"].map((name) => count(item[name], `${of}.${name}`));
    const voided = Object.values(item.voided).reduce((all, many) => all + many, 0);
    const owned = (stage) => item.rewards.flatMap((reward, place) =>
      [element("div", {}, amount(reward[stage].amount, reward, `${of}.rewards.${place}.${stage}.amount`),
        reward.currency === null ? ` ${reward.type}` : "")]);
    return [item.referrer_id, ...counts, count(voided, `${of}.voided.*`), owned("issued"), owned("delivered")];
  },
});

const STAGES = ["held", "issued", "failed", "total"];

export function liability({ items }) {
  if (items.length === 0) return [none("No rewards are owed.")];
  const rows = items.map((item, at) => [
    item.currency === null ? item.type : `${item.type}, ${item.currency}`,
    ...STAGES.map((stage) => sum(item[stage], item, `liability.items.${at}.${stage}`)),
  ]);
  return [table("By type and currency", [["Reward"], ["Held"], ["Issued"], ["Failed"], ["Total"]], rows).whole];
}

export function deadLetters({ items }) {
  const redrive = (last) => (last ? [last.status, last.failure_reason].filter(Boolean).join(": ") : "");
  const rows = items.map(({ queue, messages, last_redrive }, at) => [
    queue, count(messages, `dead_letters.items.${at}.messages`), redrive(last_redrive),
  ]);
  return [table("By queue", [["Queue"], ["Messages"], ["Last redrive", "words"]], rows).whole];
}
