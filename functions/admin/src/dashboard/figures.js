// Elements, and figures in them. A figure is shown as people read it, and carries what the API said: its place in the
// answer (`data-of`) and its value (`data-value`).

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

export const counted = (value) => whole.format(value);

/** An amount in minor units: of a currency in its major unit, of points a plain count. */
export function money(amount, currency) {
  if (currency === null) return whole.format(amount);
  const format = new Intl.NumberFormat("en", { style: "currency", currency });
  return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
}

const figure = (shown, value, of) => element("span", { "data-of": of, "data-value": value }, shown);

export const count = (value, of) => figure(counted(value), value, of);
export const amount = (value, currency, of) => figure(money(value, currency), value, of);
export const share = (value, of) => figure(value === null ? "–" : percent.format(value), value, of);

/** A count of rewards and what they are worth together. */
export const sum = ({ count: many, amount: worth }, currency, of) => [
  amount(worth, currency, `${of}.amount`),
  element("small", {}, count(many, `${of}.count`), many === 1 ? " reward" : " rewards"),
];

/** A table that scrolls sideways where it must, by keyboard too. Rows are lists of cells; the first names the row. */
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
