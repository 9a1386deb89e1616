// Folder, camera and dates; what there is to choose comes from the gallery's summary.

import { byId, counted, h, visible } from "./dom.js";
import { countFilters, withoutFilters } from "./state.js";

/** Fills the choices and the size of the gallery. */
export function offer(summary) {
  choices("folder", names(summary.folders));
  choices("camera", names(summary.cameras));
  byId("gallery-size").textContent = counted(summary.pictures, "picture");
}

/** Writes the filters of a state into the fields. */
export function fill(state) {
  for (const name of ["folder", "camera"]) {
    const select = byId(name);
    if (![...select.options].some((option) => option.value === state[name])) {
      select.append(h("option", { value: state[name] }, visible(state[name])));
    }
    select.value = state[name];
  }
  byId("since").value = state.since.slice(0, 10);
  byId("until").value = state.until.slice(0, 10);
  const count = countFilters(state);
  byId("clear-filters").hidden = byId("filter-count").hidden = count === 0;
  byId("filter-count").textContent = `${count} set`;
}

/** Listens to the fields; change(fields) gets what was set. */
export function listen(change) {
  const form = byId("filter-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => change({ [event.target.id]: event.target.value }));
  byId("clear-filters").addEventListener("click", () => {
    change(withoutFilters());
    byId("folder").focus();
  });
  const wide = matchMedia("(min-width: 60rem)");
  const unfold = () => (byId("filters").open = wide.matches);
  wide.addEventListener("change", unfold);
  unfold();
}

/** [name, pictures or null] of a list of names, a list of pairs, or an object of counts. */
function names(given) {
  if (!given) return [];
  const pairs = Array.isArray(given) ? given : Object.entries(given);
  return pairs
    .map((each) => (Array.isArray(each) ? each : [each, null]))
    .filter(([name]) => typeof name === "string" && name);
}

function choices(id, pairs) {
  const select = byId(id);
  const chosen = select.value;
  const options = pairs.map(([name, count]) =>
    h("option", { value: name }, count === null ? visible(name) : `${visible(name)} (${count.toLocaleString("en")})`),
  );
  select.replaceChildren(select.options[0], ...options);
  if (chosen && ![...select.options].some((option) => option.value === chosen)) {
    select.append(h("option", { value: chosen }, visible(chosen)));
  }
  select.value = chosen;
}
