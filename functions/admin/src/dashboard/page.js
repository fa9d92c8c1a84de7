// The page: what is asked for, and what becomes of the answers.

import { Problem, ask, isSignedIn, signOut } from "./api.js";
import { enter } from "./entry.js";
import { element } from "./figures.js";
import * as show from "./sections.js";

const form = document.querySelector("#question");
const state = document.querySelector("#status");
const leave = document.querySelector("#sign-out");
const DAY = 86_400_000;

const dayOf = (time) => new Date(time).toISOString().slice(0, 10);

/** What is asked for, out of the form. */
function question() {
  const { program, from, to } = Object.fromEntries(new FormData(form));
  return { program, from, to, period: document.querySelector("[name=period]:checked").value };
}

/** The form as the address says, or the last thirty days. */
function begin() {
  const asked = new URLSearchParams(location.search);
  const usual = { program: "default", from: dayOf(Date.now() - 29 * DAY), to: dayOf(Date.now()) };
  for (const [name, value] of Object.entries(usual)) form.elements[name].value = asked.get(name) ?? value;
}

/** The calls, each with the sections that its answer fills. */
function calls({ program, from, to, period }) {
  const of = `programs/${encodeURIComponent(program)}`;
  return [
    { path: `${of}/daily`, parameters: { from, to }, fills: { funnel: show.funnel, daily: show.daily } },
    { path: `${of}/referrers`, parameters: { period, limit: 20 }, fills: { referrers: show.referrers } },
    { path: "liability", fills: { liability: show.liability } },
    { path: "rewards", parameters: { status: "failed", limit: 20 }, fills: { failed: show.failed } },
    { path: "dead-letters", fills: { parked: show.parked } },
  ];
}

let round = 0;

/** Fills the sections of a call; the problem, if somebody has to sign in first. */
async function fill({ path, parameters, fills }, asked, mine) {
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
  // Whoever asked again in the meantime wants another answer.
  if (bodies[0].dataset.round !== String(mine)) return undefined;
  Object.values(fills).forEach((view, at) => {
    const shown = problem ? [element("p", { class: "problem", role: "alert" }, problem.message)] : view(answer, asked);
    bodies[at].replaceChildren(...shown);
    bodies[at].removeAttribute("aria-busy");
  });
  return problem;
}

async function refresh(only, again = false) {
  const mine = (round += 1);
  const asked = question();
  const wanted = calls(asked).filter(({ fills }) => !only || only in fills);
  state.textContent = "Asking …";
  const problems = (await Promise.all(wanted.map((call) => fill(call, asked, mine)))).filter(Boolean);
  if (mine !== round) return;
  const who = problems.find(({ asksWho }) => asksWho);
  leave.hidden = !isSignedIn();
  state.textContent = problems.length === 0 ? `As of ${new Date().toLocaleTimeString("en-GB")}.` : "Not everything was answered.";
  if (who && (await enter(who, again))) await refresh(undefined, true);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const { program, from, to } = question();
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

begin();
refresh();
