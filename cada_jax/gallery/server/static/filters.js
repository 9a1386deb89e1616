// Folder, camera and dates; what there is to choose comes from the gallery's summary.

import { byId, counted, h, visible } from "./dom.js";
import { countFilters, withoutFilters } from "./state.js";

/** Fills the choices and the size of the gallery. */
export function offer(summary) {
  choices("folder", folders(summary.folders ?? []));
  choices("camera", (summary.cameras ?? []).map((name) => [name, name]));
  byId("gallery-size").textContent = counted(summary.pictures, "picture");
  for (const id of ["since", "until"]) {
    byId(id).min = dateOf(summary.first_taken);
    byId(id).max = dateOf(summary.last_taken);
  }
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

/** [folder, label]: folders of pictures and those above them, without the path they all share. */
function folders(names) {
  const paths = names.map((name) => name.split("/"));
  const first = paths[0] ?? [];
  let shared = 0;
  while (shared < first.length && paths.every((path) => path[shared] === first[shared])) shared += 1;
  if (paths.length === 1) shared -= 1; // the only folder keeps its name
  const all = new Set();
  for (const path of paths) {
    for (let end = shared + 1; end <= path.length; end += 1) all.add(path.slice(0, end).join("/"));
  }
  const label = (name) => name.split("/").slice(shared).join("/");
  return [...all].sort().map((name) => [name, label(name)]);
}

function dateOf(seconds) {
  return typeof seconds === "number" ? new Date(seconds * 1000).toISOString().slice(0, 10) : "";
}

function choices(id, pairs) {
  const select = byId(id);
  const chosen = select.value;
  const options = pairs.map(([name, label]) => h("option", { value: name, title: name }, visible(label)));
  select.replaceChildren(select.options[0], ...options);
  if (chosen && ![...select.options].some((option) => option.value === chosen)) {
    select.append(h("option", { value: chosen }, visible(chosen)));
  }
  select.value = chosen;
}
