// What operators can do: the effect of each action in words, and its call.

import { send } from "./api.js";
import { confirm } from "./confirm.js";
import { element } from "./elements.js";

/** Void reasons of a referral that a later order converts again, if its rewards were not issued. */
const BY_ORDER = ["order_cancelled", "order_refunded", "payment_disputed"];

/** The sections that a decision about a referral changes. */
const OF_REFERRAL = ["attention", "held", "failed", "reversals", "liability", "referral"];

/** A button that opens the dialog of an action, and reports when it is done. */
export function actionButton(action) {
  const { name, title, done, changes } = action;
  const made = element("button", { type: "button", class: "quiet", "aria-label": title }, name);
  made.addEventListener("click", async () => {
    const section = made.closest("section");
    if (await confirm(action)) document.dispatchEvent(new CustomEvent("done", { detail: { done, changes, section } }));
  });
  return made;
}

const pathOf = (...parts) => parts.map(encodeURIComponent).join("/");

/** An action with a reason. */
const decision = (name, past, what, { method = "POST", path, effect, fields = [], bodyOf = (values) => values }) => ({
  name, effect, fields, title: `${name} ${what}`, done: `${past} ${what}.`, changes: OF_REFERRAL, needsReason: true,
  send: (values) => send(method, path, bodyOf(values)),
});

/** Sends a reward or a reversal again. `list` is `rewards` or `reversals`. */
export const resend = (list, id, user) => ({
  name: "Resend",
  title: `Resend ${id}`,
  effect: list === "rewards"
    ? `The reward ${id} of ${user} is sent to its subsystem again, with the same idempotency key.`
    : `The reversal ${id}, which takes back a reward of ${user}, is sent to its subsystem again, with the same idempotency key.`,
  done: `Resent ${id}.`,
  changes: [list === "rewards" ? "failed" : "reversals", "liability", "referral"],
  fields: [],
  needsReason: false,
  send: () => send("POST", `${list}/${pathOf(id)}/resend`),
});

const referralOf = ({ referee_id }) => `the referral of ${referee_id}`;
const bothOf = ({ referee_id, referrer_id }) => `${referee_id} and ${referrer_id}`;
const mayConvertAgain = ({ status, void_reason, rewarded_at }) =>
  status === "voided" && rewarded_at === null && BY_ORDER.includes(void_reason);

function effectOfVoid(entry) {
  if (entry.status === "voided") return `The referral of ${entry.referee_id} stays voided for good: no later order converts it again.`;
  return entry.rewarded_at === null
    ? `The referral of ${entry.referee_id} is voided, and ${bothOf(entry)} get no rewards.`
    : `The referral of ${entry.referee_id} is voided, and the rewards of ${bothOf(entry)} are taken back.`;
}

export const voiding = (entry) => decision("Void", "Voided", referralOf(entry), {
  path: `referrals/${pathOf(entry.referee_id)}/void`,
  effect: effectOfVoid(entry),
});

const reopening = (entry) => decision("Reopen", "Reopened", referralOf(entry), {
  path: `referrals/${pathOf(entry.referee_id)}/reopen`,
  effect: entry.converted_at === null
    ? `The referral of ${entry.referee_id} becomes pending again, and an order of ${entry.referee_id} can convert it.`
    : `The referral of ${entry.referee_id} becomes converted again, and ${bothOf(entry)} get their rewards when the hold ends.`,
});

const converting = (entry) => decision("Convert", "Converted", referralOf(entry), {
  path: `referrals/${pathOf(entry.referee_id)}/convert`,
  effect: `The referral of ${entry.referee_id} becomes converted by this order, and ${bothOf(entry)} get their rewards when the hold ends.`,
  fields: [
    field("Order id", { name: "order_id", required: "", maxlength: 128, autocomplete: "off", spellcheck: "false" }),
    field("Amount paid, in minor units such as cents (optional)", { name: "amount", type: "number", min: 0, step: 1 }),
    field("Currency of the amount (optional)", { name: "currency", maxlength: 3, autocomplete: "off", spellcheck: "false" }),
  ],
  bodyOf: ({ order_id, amount, currency, reason }) => ({
    order_id: order_id.trim(),
    amount: amount === "" ? undefined : Number(amount),
    currency: currency.trim() === "" ? undefined : currency.trim().toUpperCase(),
    reason,
  }),
});

const field = (label, attributes) => element("label", {}, label, element("input", attributes));

const IGNORED = {
  refund_in_other_currency: "Refunds in another currency are ignored",
  too_many_adjustments: "The adjustments that were not applied are ignored",
};
const THEN = {
  pending: () => "the referral stays pending",
  converted: (both) => `${both} get their rewards when the hold ends`,
  rewarded: (both) => `${both} keep their rewards`,
  voided: () => "the referral stays voided",
};

function effectOfApproval(entry) {
  const ignored = IGNORED[entry.attention];
  return ignored
    ? `For the referral of ${entry.referee_id}: ${ignored}, and ${THEN[entry.status](bothOf(entry))}.`
    : `The referral of ${entry.referee_id} needs no decision any more, and ${bothOf(entry)} do not get their rewards again.`;
}

export const approving = (entry) => decision("Approve", "Approved", referralOf(entry), {
  path: `reviews/${pathOf(entry.referee_id)}/approve`,
  effect: effectOfApproval(entry),
});

/** The actions that the state of this referral allows. */
export function allowed(entry) {
  const { status, rewarded_at, attention } = entry;
  const mayConvert = status === "pending" || mayConvertAgain(entry);
  return [
    ...(attention === null ? [] : [approving(entry)]),
    ...(status !== "voided" || mayConvertAgain(entry) ? [voiding(entry)] : []),
    ...(status === "voided" && rewarded_at === null && !mayConvertAgain(entry) ? [reopening(entry)] : []),
    ...(mayConvert ? [converting(entry)] : []),
  ];
}

const flagging = (user) => `The account of ${user} is flagged: sign-ups with the code of ${user} are refused, and referrals of ${user} `
  + "are voided when their hold ends.";
const clearing = (user) => `The account of ${user} is cleared: earlier flags do not count any more.`;

const flag = (user, flagged, name, past, effect) => decision(name, past, user, {
  method: "PUT",
  path: `accounts/${pathOf(user)}/flag`,
  effect,
  bodyOf: ({ reason }) => ({ flagged, reason }),
});

/** The actions on the account of a user. */
export const ofAccount = (user) => [
  flag(user, true, "Flag", "Flagged", flagging(user)),
  flag(user, false, "Clear", "Cleared", clearing(user)),
];
