// The page: makes the calls and fills the sections with the answers.

import { Problem, ask, isSignedIn, signOut } from "./api.js";
import { enter } from "./entry.js";
import { element, focusHeading } from "./elements.js";
import { attention, failed, held, reversals } from "./lists.js";
import { referral } from "./referral.js";
import * as show from "./sections.js";

const form = document.querySelector("#query");
const state = document.querySelector("#status");
const leave = document.querySelector("#sign-out");
const search = document.querySelector("#referral form");
const DAY = 86_400_000;

const dayOf = (time) => new Date(time).toISOString().slice(0, 10);

/** The query in the form. */
function query() {
  const { program, from, to } = Object.fromEntries(new FormData(form));
  return { program, from, to, period: document.querySelector("[name=period]:checked").value };
}

/** The referee whose referral is shown, if any. */
let referee = "";

/** Fills the form from the URL, or with the last thirty days. */
function fillForm() {
  const inUrl = new URLSearchParams(location.search);
  const defaults = { program: "default", from: dayOf(Date.now() - 29 * DAY), to: dayOf(Date.now()) };
  for (const [name, value] of Object.entries(defaults)) form.elements[name].value = inUrl.get(name) ?? value;
}

/** The calls, each with the sections that show its answer. */
function calls({ program, from, to, period }) {
  const of = `programs/${encodeURIComponent(program)}`;
  return [
    { path: `${of}/daily`, parameters: { from, to }, fills: { funnel: show.funnel, daily: show.daily } },
    { path: `${of}/referrers`, parameters: { period, limit: 20 }, fills: { referrers: show.referrers } },
    { path: "liability", fills: { liability: show.liability } },
    { path: "referrals", parameters: { status: "attention", limit: 20 }, fills: { attention } },
    { path: "rewards", parameters: { status: "failed", limit: 20 }, fills: { failed } },
    { path: "reversals", parameters: { status: "failed", limit: 20 }, fills: { reversals } },
    { path: "referrals", parameters: { status: "held", limit: 20 }, fills: { held } },
    ...(referee ? [{ path: `referrals/${encodeURIComponent(referee)}`, fills: { referral } }] : []),
    { path: "dead-letters", fills: { "dead-letters": show.deadLetters } },
  ];
}

let round = 0;

/** Makes a call and fills its sections. Returns the problem if there was one. */
async function fill({ path, parameters, fills }, current, mine) {
  const bodies = Object.keys(fills).map((id) => document.querySelector(`#${id} .body`));
  for (const body of bodies) {
    body.setAttribute("aria-busy", "true");
    body.dataset.round = mine;
  }
  let problem;
  const answer = await ask(path, parameters).catch((met) => {
    if (!(met instanceof Problem)) throw met;
    problem = met;
  });
  // A newer query has started meanwhile, so this answer is outdated.
  if (bodies[0].dataset.round !== String(mine)) return undefined;
  Object.values(fills).forEach((view, at) => {
    const shown = problem ? [element("p", { class: "problem", role: "alert" }, problem.message)] : view(answer, current);
    bodies[at].replaceChildren(...shown);
    bodies[at].removeAttribute("aria-busy");
  });
  return problem;
}

/** Loads the sections, or only those with these ids. `said` stays in the status line. */
async function refresh(only, { again = false, said = "" } = {}) {
  const say = (text) => (state.textContent = `${said} ${text}`.trim());
  const mine = (round += 1);
  const current = query();
  const selected = calls(current).filter(({ fills }) => !only || only.some((id) => id in fills));
  say("Loading …");
  const problems = (await Promise.all(selected.map((call) => fill(call, current, mine)))).filter(Boolean);
  if (mine !== round) return;
  const unauthorized = problems.find(({ needsSignIn }) => needsSignIn);
  leave.hidden = !isSignedIn();
  say(problems.length === 0 ? `As of ${new Date().toLocaleTimeString("en-GB")}.` : "Some data could not be loaded.");
  if (unauthorized && (await enter(unauthorized, again))) await refresh(undefined, { again: true });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const { program, from, to } = query();
  history.replaceState(null, "", `?${new URLSearchParams({ program, from, to })}`);
  refresh();
});
for (const choice of document.querySelectorAll("[name=period]")) {
  choice.addEventListener("change", () => refresh(["referrers"]));
}
search.addEventListener("submit", (event) => {
  event.preventDefault();
  referee = search.elements.referee.value.trim();
  refresh(["referral"]);
});
document.addEventListener("done", async ({ detail: { done, changes, section } }) => {
  await refresh(changes, { said: done });
  // The button of the action may be gone, and with it the focus.
  if (document.activeElement === document.body) focusHeading(section);
});
leave.addEventListener("click", () => {
  signOut();
  refresh();
});

fillForm();
refresh();
