// Draws the daily series as lines. The lines also differ by their dashes, not only by color. A cursor, moved by pointer or
// arrow keys, shows the values of each day; the table below contains the same values.

import { counted, drawn, element } from "./elements.js";

export const SERIES = ["attributed", "converted", "rewarded"];

const HEIGHT = 240;
const EDGE = { top: 10, right: 14, bottom: 26, left: 48 };

/** Axis ticks up to at least the largest value, in steps of 1, 2 or 5 times a power of ten. */
function steps(largest) {
  const rough = Math.max(1, largest / 4);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  return Array.from({ length: Math.max(1, Math.ceil(largest / step)) + 1 }, (_, at) => at * step);
}

export const legend = () =>
  element("ul", { class: "legend" }, ...SERIES.map((name) => {
    const stroke = drawn("line", { class: name, x1: 0, y1: 6, x2: 32, y2: 6 });
    return element("li", { class: name }, drawn("svg", { viewBox: "0 0 32 12", "aria-hidden": "true" }, stroke), name);
  }));

export function plot(days, width, onDay) {
  const { top, right, bottom, left } = EDGE;
  const values = days.flatMap(({ figures }) => SERIES.map((name) => figures[name]));
  const ticks = steps(Math.max(...values));
  const across = (at) => left + (days.length === 1 ? 0.5 : at / (days.length - 1)) * (width - left - right);
  const up = (value) => HEIGHT - bottom - (value / ticks.at(-1)) * (HEIGHT - top - bottom);

  const svg = drawn("svg", {
    class: "plot", viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: 0,
    "aria-label": `Daily counters from ${days[0].date} to ${days.at(-1).date}. Use the arrow keys to read each day.`,
  });
  for (const tick of ticks) {
    svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: up(tick), y2: up(tick) }));
    svg.append(drawn("text", { x: left - 8, y: up(tick) + 4, "text-anchor": "end" }, counted(tick)));
  }
  // One date label per stride, counted back from the last day.
  const stride = Math.ceil(days.length / Math.max(1, Math.floor((width - left) / 110)));
  for (let at = days.length - 1; at >= 0; at -= stride) {
    const anchor = days.length === 1 ? "middle" : at === days.length - 1 ? "end" : across(at) < left + 35 ? "start" : "middle";
    svg.append(drawn("text", { x: across(at), y: HEIGHT - 6, "text-anchor": anchor }, days[at].date));
  }
  for (const name of SERIES) {
    const points = days.map(({ figures }, at) => [across(at), up(figures[name])]);
    svg.append(drawn("polyline", { class: `line ${name}`, points: points.map((point) => point.join()).join(" ") }));
    if (days.length <= 31) svg.append(...points.map(([x, y]) => drawn("circle", { class: `dot ${name}`, cx: x, cy: y, r: 2.5 })));
  }

  let chosen = days.length - 1;
  const cursor = drawn("line", { class: "cursor", y1: top, y2: HEIGHT - bottom, visibility: "hidden" });
  svg.append(cursor);
  const choose = (at) => {
    chosen = Math.min(days.length - 1, Math.max(0, at));
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, across(chosen));
    cursor.setAttribute("visibility", "visible");
    const { date, figures } = days[chosen];
    onDay(`${date}: ${SERIES.map((name) => `${counted(figures[name])} ${name}`).join(", ")}`);
  };
  svg.addEventListener("focus", () => choose(chosen));
  svg.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: days.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to);
  });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    choose(Math.round(((x - left) / (width - left - right)) * (days.length - 1)));
  });
  return svg;
}
