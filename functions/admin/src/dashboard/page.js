// The page: makes the calls and fills the sections with the answers.

import { Problem, ask, isSignedIn, signOut } from "./api.js";
import { enter } from "./entry.js";
import { element } from "./elements.js";
import * as show from "./sections.js";

const form = document.querySelector("#query");
const state = document.querySelector("#status");
const leave = document.querySelector("#sign-out");
const DAY = 86_400_000;

const dayOf = (time) => new Date(time).toISOString().slice(0, 10);

/** The query in the form. */
function query() {
  const { program, from, to } = Object.fromEntries(new FormData(form));
  return { program, from, to, period: document.querySelector("[name=period]:checked").value };
}

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
    { path: "rewards", parameters: { status: "failed", limit: 20 }, fills: { failed: show.failed } },
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

async function refresh(only, again = false) {
  const mine = (round += 1);
  const current = query();
  const selected = calls(current).filter(({ fills }) => !only || only in fills);
  state.textContent = "Loading …";
  const problems = (await Promise.all(selected.map((call) => fill(call, current, mine)))).filter(Boolean);
  if (mine !== round) return;
  const unauthorized = problems.find(({ needsSignIn }) => needsSignIn);
  leave.hidden = !isSignedIn();
  state.textContent = problems.length === 0 ? `As of ${new Date().toLocaleTimeString("en-GB")}.` : "Some data could not be loaded.";
  if (unauthorized && (await enter(unauthorized, again))) await refresh(undefined, true);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const { program, from, to } = query();
  history.replaceState(null, "", `?${new URLSearchParams({ program, from, to })}`);
  refresh();
});
for (const choice of document.querySelectorAll("[name=period]")) {
  choice.addEventListener("change", () => refresh("referrers"));
}
leave.addEventListener("click", () => {
  signOut();
  refresh();
});

fillForm();
refresh();
