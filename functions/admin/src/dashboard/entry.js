// The sign-in dialog.

import { signIn } from "./api.js";

const dialog = document.querySelector("#entry");
const form = dialog.querySelector("form");
const problem = dialog.querySelector("#entry-problem");

function show(kind) {
  for (const part of form.querySelectorAll("[data-kind]")) part.hidden = part.dataset.kind !== kind;
}

for (const choice of form.elements.kind) choice.addEventListener("change", () => show(choice.value));

/** The region in the host name, if the host belongs to API Gateway. */
const regionOf = (host) => host.match(/\.execute-api\.([a-z0-9-]+)\./)?.[1] ?? "";

/** Opens the dialog. Returns true when the user signed in. After a 401, the gateway expects a token. */
export function enter({ status, message }, again) {
  const kind = status === 401 ? "token" : "keys";
  form.elements.kind.value = kind;
  show(kind);
  form.elements.region.value ||= regionOf(location.host);
  problem.textContent = again ? `Sign-in failed: ${message}` : "";
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
