// The dialog in which somebody signs in.

import { signIn } from "./api.js";

const dialog = document.querySelector("#entry");
const form = dialog.querySelector("form");
const problem = dialog.querySelector("#entry-problem");

function show(kind) {
  for (const part of form.querySelectorAll("[data-kind]")) part.hidden = part.dataset.kind !== kind;
}

for (const choice of form.elements.kind) choice.addEventListener("change", () => show(choice.value));

/** The region in the host's name, if it is one of API Gateway's own. */
const regionOf = (host) => host.match(/\.execute-api\.([a-z0-9-]+)\./)?.[1] ?? "";

/** Asks who it is; `true` when somebody signed in. A token is what is wanted where the gateway said 401. */
export function enter({ status, message }, again) {
  const kind = status === 401 ? "token" : "keys";
  form.elements.kind.value = kind;
  show(kind);
  form.elements.region.value ||= regionOf(location.host);
  problem.textContent = again ? `That was not accepted: ${message}` : "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "enter" && accepted()), { once: true });
  });
}

function accepted() {
  const { kind, id, secret, session, region, token, keep } = form.elements;
  const value = (field) => field.value.trim();
  const keys = { id: value(id), secret: value(secret), session: value(session), region: value(region) };
  signIn(kind.value === "token" ? { token: value(token) } : keys, keep.checked);
  for (const field of [secret, session, token]) field.value = "";
  return true;
}
