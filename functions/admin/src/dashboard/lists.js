// Renders the lists of what operators have to know or decide: failed rewards and reversals, held referrals, and referrals that
// need a decision.

import { actionButton, allowed, resend } from "./actions.js";
import { amount, element, plain, time } from "./elements.js";
import { paged } from "./paged.js";
import { link, why } from "./referral.js";

/** What was refused: `list` is `rewards` or `reversals`, and `name` the name of its values in `data-of`. */
const refused = (list, name, idOf, column) => (first) => paged(first, {
  title: `Failed ${list}, oldest first`,
  columns: [[column], ["User", "text"], ["Amount"], ["Failed at", "text"], ["Failure", "words"], ["Action", "text"]],
  path: list,
  parameters: { status: "failed", limit: 20 },
  empty: `No failed ${list}.`,
  row: (item, at) => {
    const of = `${name}.items.${at}`;
    return [
      link(item[idOf], `${of}.${idOf}`, item.referee_id), plain(item.user_id, `${of}.user_id`),
      [amount(item.amount, item, `${of}.amount`), element("small", {}, item.type)],
      time(item.failed_at, `${of}.failed_at`), plain(item.failure, `${of}.failure`),
      actionButton(resend(list, item[idOf], item.user_id)),
    ];
  },
});

export const failed = refused("rewards", "failed", "reward_id", "Reward");
export const reversals = refused("reversals", "reversals", "reversal_id", "Reversal");

export const held = (first) => paged(first, {
  title: "Waiting for the end of their hold",
  columns: [["Referee"], ["Referrer", "text"], ["Order", "text"], ["Converted at", "text"], ["Due at", "text"]],
  path: "referrals",
  parameters: { status: "held", limit: 20 },
  empty: "No held referrals.",
  row: (item, at) => {
    const of = `held.items.${at}`;
    return [
      link(item.referee_id, `${of}.referee_id`), plain(item.referrer_id, `${of}.referrer_id`), plain(item.order_id, `${of}.order_id`),
      time(item.converted_at, `${of}.converted_at`), time(item.due_at, `${of}.due_at`),
    ];
  },
});

export const attention = (first) => paged(first, {
  title: "Waiting for an operator",
  columns: [["Referee"], ["Order", "text"], ["Why", "words"], ["Actions", "text"]],
  path: "referrals",
  parameters: { status: "attention", limit: 20 },
  empty: "No referral needs a decision.",
  row: (item, at) => {
    const of = `attention.items.${at}`;
    const decisions = allowed(item).filter(({ name }) => name === "Approve" || name === "Void");
    return [
      link(item.referee_id, `${of}.referee_id`), plain(item.order_id, `${of}.order_id`), why(item.attention, `${of}.attention`),
      element("div", { class: "actions" }, ...decisions.map(actionButton)),
    ];
  },
});
