// The live view: the buttons' actions and the referral's current state.

import { element } from "/dashboard/elements.js";
import { clock, follow, settings, worthOf } from "./events.js";

const form = document.querySelector("#people");
const answer = document.querySelector("#answer");
const life = document.querySelector("#life");
const state = document.querySelector("#status");

const people = () => Object.fromEntries(new FormData(form));

async function call(method, path, body, headers = {}) {
  const answered = await fetch(path, {
    method,
    headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: answered.status, body: await answered.json().catch(() => null) };
}

/** Publishes an event on the bus, as a shop would. */
async function publish(type, detail) {
  const entry = { EventBusName: settings.bus, Source: "shop", DetailType: type, Detail: JSON.stringify(detail) };
  const headers = { "content-type": "application/x-amz-json-1.1", "x-amz-target": "AWSEvents.PutEvents" };
  const { status, body } = await call("POST", "/", { Entries: [entry] }, headers);
  return status === 200 && body.FailedEntryCount === 0
    ? `${type}: published.`
    : `${type}: refused, ${body?.message ?? body?.Entries?.[0]?.ErrorMessage ?? status}`;
}

const outcomeOf = (call, { status, body }) => `${call}: ${status}${body?.detail ? `, ${body.detail}` : ""}`;
const codeOf = (user) => `/v1/users/${encodeURIComponent(user)}/code`;
const order = ({ referee, amount }) =>
  ({ order_id: `order-of-${referee}`, user_id: referee, amount: Number(amount), currency: settings.currency });

const ACTS = {
  async mint({ referrer }) {
    const minted = await call("PUT", codeOf(referrer));
    return minted.body?.code ? `${minted.status}: the code of ${referrer} is ${minted.body.code}.` : outcomeOf("Mint", minted);
  },
  async attribute({ referrer, referee }) {
    const code = await call("GET", codeOf(referrer));
    if (code.status !== 200) return outcomeOf("Code of the referrer", code);
    return outcomeOf("Attribute", await call("POST", "/v1/referrals", { referee_id: referee, code: code.body.code }));
  },
  order: (who) => publish(settings.event, order(who)),
  refund: (who) => publish("order.refunded", { refund_id: `refund-of-${who.referee}`, ...order(who) }),
};

const stepOf = (name, at, mark = at ? "done" : "") =>
  element("li", { class: mark }, name, ...(at ? [element("time", { datetime: at }, clock(at))] : []));

function steps(referral) {
  const reward = ({ side, type, status, delivered_at, issued_at, ...worth }) =>
    stepOf(`${side}'s ${type}, ${worthOf(worth)}: ${status}`, delivered_at ?? issued_at,
      { delivered: "done", failed: "wrong", reversed: "wrong" }[status] ?? "");
  const voided = referral.voided_at ? [stepOf(`Voided: ${referral.void_reason.replaceAll("_", " ")}`, referral.voided_at, "wrong")] : [];
  return element("ol", { class: "steps" }, stepOf(`Attributed to ${referral.referrer_id}`, referral.created_at),
    stepOf("Converted", referral.converted_at), stepOf("Rewarded", referral.rewarded_at),
    ...referral.rewards.map(reward), ...voided);
}

/** Every decision so far, as the API explains it. */
function decisionsOf({ decisions }) {
  const decision = ({ at, decision, outcome, reason, order_id, instruction_id, reward_id }) => {
    const what = [order_id ?? instruction_id ?? reward_id, reason?.replaceAll("_", " ")].filter(Boolean).join(", ");
    return stepOf(`${decision}: ${outcome.replaceAll("_", " ")}${what ? ` (${what})` : ""}`, at, "");
  };
  return element("details", {}, element("summary", {}, "Decisions"), element("ol", { class: "steps" }, ...decisions.map(decision)));
}

let shown;

/** Shows the referral's state, if it changed. */
async function refresh() {
  const { referee } = people();
  const { status, body } = await call("GET", `/v1/referrals/${encodeURIComponent(referee)}`);
  const explained = status === 200 ? (await call("GET", `/v1/referrals/${encodeURIComponent(referee)}/explain`)).body : null;
  const now = JSON.stringify([referee, status, body, explained]);
  if (now === shown) return;
  shown = now;
  const isOpen = life.querySelector("details")?.open;
  life.replaceChildren(...(explained?.decisions ? [steps(body), decisionsOf(explained)] : [element("p", { class: "none" }, status === 404 ? `No one has referred ${referee}.` : body?.detail ?? `The service answered ${status}.`)]));
  if (isOpen) life.querySelector("details")?.setAttribute("open", "");
}

for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", async () => {
    if (!form.reportValidity()) return;
    answer.textContent = await ACTS[button.dataset.act](people()).catch(() => "The service is not responding.");
    await refresh().catch(() => {});
  });
}
form.addEventListener("submit", (event) => event.preventDefault());
document.querySelector("#next").addEventListener("click", () => {
  const { name, number } = form.elements.referee.value.match(/^(?<name>.*?)-?(?<number>\d*)$/).groups;
  form.elements.referee.value = `${name}-${Number(number || 1) + 1}`;
  refresh().catch(() => {});
});

follow(async (answers) => {
  if (answers && form.elements.referee.value) await refresh();
  state.textContent = answers ? "" : "The service is not responding. Retrying.";
});
