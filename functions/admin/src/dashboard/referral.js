// The section of one referral: its state, what operators did with it, and the actions that its state allows.

import { actionButton, allowed, ofAccount, resend } from "./actions.js";
import { amount, element, focusHeading, named, none, plain, table, time, valueOf, words } from "./elements.js";

const section = document.querySelector("#referral");
const form = section.querySelector("form");

const WHY = {
  refund_in_other_currency: "A refund has another currency than its order.",
  too_many_adjustments: "The order has more refunds and other adjustments than the service stores.",
  order_stands_again: "The order stands again after its rewards were taken back.",
};

/** Why an operator has to decide about a referral. */
export const why = (attention, of) =>
  attention === null ? plain(null, of) : valueOf(WHY[attention] ?? words(attention), attention, of);

/** A value of a list that opens the referral of this referee in this section. */
export function link(value, of, referee = value) {
  const made = element("button", { type: "button", class: "link", "aria-label": `${value}: show the referral` }, plain(value, of));
  made.addEventListener("click", () => {
    form.elements.referee.value = referee;
    form.requestSubmit();
    focusHeading(section);
  });
  return made;
}

const FACTS = [
  ["Status", "status", named], ["Why it needs a decision", "attention", why], ["Code", "code", plain], ["Program", "program", plain],
  ["Attributed at", "created_at", time], ["Order", "order_id", plain], ["Event", "conversion_event", plain],
  ["Converted at", "converted_at", time], ["Due at", "due_at", time], ["Rewarded at", "rewarded_at", time],
  ["Voided at", "voided_at", time], ["Void reason", "void_reason", named],
];

const fact = (name, ...shown) => element("div", {}, element("dt", {}, name), element("dd", {}, ...shown));
const actions = (of) => element("div", { class: "actions" }, ...of.map(actionButton));
const person = (name, user, of) => fact(name, plain(user, of), actions(ofAccount(user)));

function rewards(entry) {
  const rows = entry.rewards.map((reward, at) => {
    const of = `referral.rewards.${at}`;
    // The digits of the currency are those of the API. Without them, the amount is shown in minor units.
    const worth = { currency_exponent: null, ...reward };
    return [
      plain(reward.reward_id, `${of}.reward_id`), named(reward.type, `${of}.type`), amount(reward.amount, worth, `${of}.amount`),
      amount(reward.reversed_amount, worth, `${of}.reversed_amount`), named(reward.status, `${of}.status`),
      time(reward.delivered_at, `${of}.delivered_at`),
      reward.status === "failed" ? actionButton(resend("rewards", reward.reward_id, reward.user_id)) : "",
    ];
  });
  const columns = [
    ["Reward"], ["Type", "text"], ["Amount"], ["Taken back"], ["Status", "text"], ["Delivered at", "text"], ["Action", "text"],
  ];
  return rows.length === 0 ? none("No rewards are issued.") : table("Rewards", columns, rows).whole;
}

function notes(entry) {
  const rows = entry.notes.map((note, at) => {
    const of = `referral.notes.${at}`;
    return [
      time(note.at, `${of}.at`), named(note.action, `${of}.action`), plain(note.reason, `${of}.reason`),
      plain(note.operator, `${of}.operator`),
    ];
  });
  const columns = [["Time"], ["Action", "text"], ["Reason", "words"], ["Operator", "words"]];
  return rows.length === 0 ? none("No operator has acted on this referral.") : table("Actions of operators", columns, rows).whole;
}

export const referral = (entry) => [
  element("dl", {},
    person("Referee", entry.referee_id, "referral.referee_id"), person("Referrer", entry.referrer_id, "referral.referrer_id"),
    ...FACTS.map(([name, key, show]) => fact(name, show(entry[key], `referral.${key}`)))),
  actions(allowed(entry)), rewards(entry), notes(entry),
];
