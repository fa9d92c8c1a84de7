// What happens, as it happens: events on the bus and calls to the subsystems, asked for every half second.

import { element } from "/dashboard/figures.js";

const PAUSE = 500;
/** More than this nobody reads; what is older leaves the page. */
const SHOWN = 200;

const list = document.querySelector("#news");
const quiet = document.querySelector("#quiet");

/** Time of day, in UTC like every time of this service. */
export const clock = (time) => new Date(time).toISOString().slice(11, 23);

const rewardOf = ({ side, amount, currency, type }) => `${side}, ${amount} ${currency ?? type}`;

function whatOf(detail) {
  const who = detail.reward_id ?? detail.referee_id ?? detail.user_id ?? "";
  return detail.side ? `${who} (${rewardOf(detail)})` : [who, detail.order_id, detail.void_reason].filter(Boolean).join(", ");
}

/** When each reward was last handed over. */
const handed = new Map();

/** Where news come from, and how each is told. Deliveries are told before events, for these may speak of those. */
const SOURCES = [
  {
    path: "/_local/deliveries",
    told: (call) => {
      handed.set(call.reward_id, Date.parse(call.received_at));
      return {
        at: call.received_at,
        kind: `${call.type} ${call.reversal ? "reversal" : "delivery"}`,
        what: `${call.reward_id} (${rewardOf(call.body)}), answered ${call.status}`,
        mark: call.status < 300 ? "call" : "call failed",
      };
    },
  },
  {
    path: "/_local/events",
    told: ({ "detail-type": kind, time, detail }) => ({
      at: detail.occurred_at ?? time,
      kind,
      what: whatOf(detail),
      mark: "event",
      after: /^reward\.(delivered|failed)$/.test(kind) ? handed.get(detail.reward_id) : undefined,
    }),
  },
].map((source) => ({ ...source, seen: 0, latest: 0 }));

function item(news, { at, kind, what, mark }) {
  const summary = element("summary", {}, element("time", { datetime: at }, clock(at)),
    element("span", { class: "kind" }, kind), element("span", { class: "what" }, what));
  return element("li", { class: mark }, element("details", {}, summary,
    element("pre", { tabindex: 0, "aria-label": `${kind}, in full` }, JSON.stringify(news, null, 2))));
}

/** What is new from a source, oldest first. */
async function look({ path, seen }) {
  const answer = await fetch(`${path}?after=${seen}`);
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

/** News with their place in time: never before what its source told earlier, as an envelope's time has no fractions. */
function placed(source, news) {
  source.seen += news.length;
  return news.map((one) => {
    const told = source.told(one);
    source.latest = Math.max(source.latest, Date.parse(told.at), told.after ?? 0);
    return { one, told, place: source.latest };
  });
}

/** Shows what is new for as long as the page is open; `tell` hears after each look whether the service answered. */
export async function follow(tell) {
  const [deliveries, events] = SOURCES;
  for (;;) {
    try {
      // Events first: whatever delivery they speak of is then among the deliveries.
      const happened = await look(events);
      const news = [...placed(deliveries, await look(deliveries)), ...placed(events, happened)];
      news.sort((a, b) => a.place - b.place);
      list.prepend(...news.reverse().map(({ one, told }) => item(one, told)));
      while (list.childElementCount > SHOWN) list.lastElementChild.remove();
      quiet.hidden = list.childElementCount > 0;
      await tell(true);
    } catch {
      await tell(false);
    }
    await new Promise((resume) => setTimeout(resume, PAUSE));
  }
}
