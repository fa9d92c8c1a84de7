// A list that loads more pages on request.

import { ask } from "./api.js";
import { button, element, none, table } from "./elements.js";

/** The first page of a list, and a button for the next. `row` renders an item, with its index in the whole list. */
export function paged(first, { title, columns, path, parameters, row, empty }) {
  if (first.items.length === 0 && first.next_cursor === null) return [none(empty)];
  let shown = 0;
  const rows = (page) => page.items.map((item) => row(item, shown++));
  const { whole, add } = table(title, columns, rows(first));
  let next = first.next_cursor;
  const problem = element("p", { class: "problem", role: "alert" });
  const more = button("Show more", async () => {
    try {
      const page = await ask(path, { ...parameters, cursor: next });
      add(rows(page));
      next = page.next_cursor;
      more.hidden = next === null;
      problem.textContent = "";
    } catch ({ message }) {
      problem.textContent = message;
    }
  }, "quiet more");
  more.hidden = next === null;
  return [whole, more, problem];
}
