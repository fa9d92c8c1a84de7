// Creates elements and formats values. The element of a value shows the formatted text, and carries the value itself
// (`data-value`) and its path in the API's answer (`data-of`).

export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const whole = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 2 });

/** Shown instead of a value that does not exist. */
const NONE = "–";

export const words = (name) => name.replaceAll("_", " ");
export const counted = (value) => whole.format(value);

/**
 * Formats an amount in minor units: in the major unit of its currency, or as a plain number for points. `exponent` is the
 * API's `currency_exponent`, because browsers do not know the digits of every currency.
 */
export function money(amount, currency, exponent) {
  if (currency === null) return whole.format(amount);
  if (exponent === null) return `${whole.format(amount)} minor units of ${currency}`;
  const digits = { minimumFractionDigits: exponent, maximumFractionDigits: exponent };
  return new Intl.NumberFormat("en", { style: "currency", currency, ...digits }).format(amount / 10 ** exponent);
}

/** The element of a value. */
export const valueOf = (shown, value, of) => element("span", { "data-of": of, "data-value": value }, shown);

export const count = (value, of) => valueOf(counted(value), value, of);
/** An amount of a reward, which has the fields `currency` and `currency_exponent`. */
export const amount = (value, { currency, currency_exponent }, of) =>
  valueOf(money(value, currency, currency_exponent), value, of);
export const share = (value, of) => valueOf(value === null ? NONE : percent.format(value), value, of);
/** A text as it is, such as an id. */
export const plain = (value, of) => valueOf(value ?? NONE, value, of);
/** A name of the API, such as a status. */
export const named = (value, of) => valueOf(value === null ? NONE : words(value), value, of);
/** A time, in UTC. */
export const time = (value, of) => valueOf(value === null ? NONE : value.slice(0, 16).replace("T", " "), value, of);

/** A number of rewards and their total amount. */
export const sum = ({ count: many, amount: worth }, reward, of) => [
  amount(worth, reward, `${of}.amount`),
  element("small", {}, count(many, `${of}.count`), many === 1 ? " reward" : " rewards"),
];

export const none = (text) => element("p", { class: "none" }, text);

/** A button that cannot be used again until `act` has ended. */
export function button(name, act, kind) {
  const made = element("button", { type: "button", class: kind }, name);
  made.addEventListener("click", async () => {
    made.disabled = true;
    await act().finally(() => (made.disabled = false));
  });
  return made;
}

/** Moves the focus to the heading of a section. */
export function focusHeading(section) {
  const heading = section.querySelector("h2");
  heading.tabIndex = -1;
  heading.focus();
}

/** A table that scrolls horizontally if necessary, also by keyboard. Rows are lists of cells; the first is the row header. */
export function table(title, columns, rows) {
  const head = columns.map(([name, kind]) => element("th", { scope: "col", class: kind }, name));
  const body = element("tbody");
  const add = (more) => body.append(...more.map((row) => element("tr", {}, ...row.map((cell, at) => cellOf(cell, at, columns[at])))));
  add(rows);
  const rest = element("table", { "aria-label": title }, element("thead", {}, element("tr", {}, ...head)), body);
  const scroll = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, rest);
  return { whole: element("div", {}, element("p", { class: "caption" }, title), scroll), add };
}

function cellOf(cell, at, [, kind]) {
  const parts = Array.isArray(cell) ? cell : [cell];
  return at === 0 ? element("th", { scope: "row" }, ...parts) : element("td", { class: kind }, ...parts);
}
