// The live list of events on the bus and calls to the reward endpoints, polled every half second.

import { element, money } from "/dashboard/elements.js";

const PAUSE = 500;
/** The most entries on the page; older ones are removed. */
const MAX_SHOWN = 200;

const list = document.querySelector("#events");
const noEvents = document.querySelector("#no-events");

/** The time of day in UTC, like all times of this service. */
export const clock = (time) => new Date(time).toISOString().slice(11, 23);

/** Bus, event and currency of this service. */
export const settings = await (await fetch("/_local/live/settings")).json();

/** An amount as text: money in its major unit, points with their name. The exponent is known only for the current currency. */
export const worthOf = ({ amount, currency }) =>
  currency ? money(amount, currency, currency === settings.currency ? settings.currency_exponent : null) : `${amount} points`;

const rewardOf = (reward) => `${reward.side}, ${worthOf(reward)}`;

function summaryOf(detail) {
  const id = detail.reversal_id ?? detail.reward_id ?? detail.referee_id ?? detail.user_id ?? "";
  return detail.side ? `${id} (${rewardOf(detail)})` : [id, detail.order_id, detail.void_reason].filter(Boolean).join(", ");
}

/** When each reward was last sent. */
const sentAt = new Map();

/** Where entries come from and how to describe them. Deliveries come before events, because events can refer to them. */
const SOURCES = [
  {
    path: "/_local/deliveries",
    describe: (call) => {
      const id = call.reversal_id ?? call.reward_id;
      sentAt.set(id, Date.parse(call.received_at));
      return {
        at: call.received_at,
        kind: `${call.type} ${call.reversal ? "reversal" : "delivery"}`,
        what: `${id} (${rewardOf(call.body)}), answered ${call.status}`,
        mark: call.status < 300 ? "call" : "call failed",
      };
    },
  },
  {
    path: "/_local/events",
    describe: ({ "detail-type": kind, time, detail }) => ({
      at: detail.occurred_at ?? time,
      kind,
      what: summaryOf(detail),
      mark: "event",
      notBefore: /\.(delivered|failed)$/.test(kind) ? sentAt.get(detail.reversal_id ?? detail.reward_id) : undefined,
    }),
  },
].map((source) => ({ ...source, seen: 0, latest: 0 }));

function listItem(entry, { at, kind, what, mark }) {
  const summary = element("summary", {}, element("time", { datetime: at }, clock(at)),
    element("span", { class: "kind" }, kind), element("span", { class: "what" }, what));
  return element("li", { class: mark }, element("details", {}, summary,
    element("pre", { tabindex: 0, "aria-label": `${kind}, in full` }, JSON.stringify(entry, null, 2))));
}

/** New entries of a source, oldest first. */
async function poll({ path, seen }) {
  const answer = await fetch(`${path}?after=${seen}`);
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

/** Entries with their sort time: never before earlier entries of the same source, because envelope times are whole seconds. */
function withSortTime(source, entries) {
  source.seen += entries.length;
  return entries.map((entry) => {
    const description = source.describe(entry);
    source.latest = Math.max(source.latest, Date.parse(description.at), description.notBefore ?? 0);
    return { entry, description, time: source.latest };
  });
}

/** Adds new entries for as long as the page is open. Calls `report` after each poll: did the service answer? */
export async function follow(report) {
  const [deliveries, events] = SOURCES;
  for (;;) {
    try {
      // Events first, so that every delivery that they refer to is in the list of deliveries.
      const published = await poll(events);
      const entries = [...withSortTime(deliveries, await poll(deliveries)), ...withSortTime(events, published)];
      entries.sort((a, b) => a.time - b.time);
      list.prepend(...entries.reverse().map(({ entry, description }) => listItem(entry, description)));
      while (list.childElementCount > MAX_SHOWN) list.lastElementChild.remove();
      noEvents.hidden = list.childElementCount > 0;
      await report(true);
    } catch {
      await report(false);
    }
    await new Promise((resume) => setTimeout(resume, PAUSE));
  }
}
