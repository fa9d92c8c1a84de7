// The dialog in which an operator confirms an action.

import { Problem } from "./api.js";
import { enter } from "./entry.js";

const dialog = document.querySelector("#action");
const form = dialog.querySelector("form");
const fields = dialog.querySelector("#action-fields");
const problem = dialog.querySelector("#action-problem");

let action;
let settle;
let isSending = false;

/**
 * Opens the dialog of an action: its `title`, its `effect` in one sentence, its own `fields`, and whether it `needsReason`.
 * Returns true when `send` has succeeded with the values of the fields, and false when the operator cancelled.
 */
export function confirm(next) {
  action = next;
  dialog.querySelector("#action-title").textContent = action.title;
  dialog.querySelector("#action-effect").textContent = action.effect;
  fields.replaceChildren(...action.fields);
  form.reset();
  const { reason } = form.elements;
  reason.disabled = !action.needsReason;
  reason.closest("label").hidden = reason.disabled;
  problem.textContent = "";
  dialog.showModal();
  return new Promise((resolve) => (settle = resolve));
}

/** Sends the action. Returns the message of the problem if there was one. */
async function attempt(values, again = false) {
  try {
    await action.send(values);
    return undefined;
  } catch (met) {
    if (!(met instanceof Problem)) throw met;
    if (met.needsSignIn && (await enter(met, again))) return attempt(values, true);
    return met.message;
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (isSending) return;
  isSending = true;
  form.setAttribute("aria-busy", "true");
  problem.textContent = "";
  try {
    const message = await attempt(Object.fromEntries(new FormData(form)));
    problem.textContent = message ?? "";
    if (message === undefined) {
      dialog.close();
      settle(true);
    }
  } finally {
    isSending = false;
    form.removeAttribute("aria-busy");
  }
});

// The result of a request that was sent is shown in the dialog, so it stays open until then.
dialog.addEventListener("cancel", (event) => {
  if (isSending) event.preventDefault();
});
dialog.querySelector("[value=cancel]").addEventListener("click", () => {
  if (!isSending) dialog.close();
});
dialog.addEventListener("close", () => {
  if (!isSending) settle(false);
});
