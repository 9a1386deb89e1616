// What is asked: the text box, further phrasings, excluded words, a picture, and the filters.

import { thumbnailAddress } from "./api.js";
import { byId, counted, h, icon, visible } from "./dom.js";
import { countFilters, filterNames, withoutFilters } from "./state.js";

const MOST_PHRASINGS = 8;
const field = (name) => byId("filter-form").elements[name];
let drawn = ""; // the rows on the page, to leave alone what a person is typing in
let preview = ""; // address of the uploaded picture

/** Writes a state into the fields. `file` is an uploaded picture. */
export function fill(state, file) {
  byId("q").value = state.q[0] ?? "";
  const now = JSON.stringify([state.q, state.not]);
  if (now !== drawn) {
    byId("phrasings").replaceChildren(...state.q.slice(1).map((text) => row("phrasings", text)));
    byId("excluded").replaceChildren(...state.not.map((text) => row("excluded", text)));
    number();
  }
  drawn = now;
  showBasis(state, file);
  for (const name of filterNames) {
    const node = field(name);
    node.value = node.type === "date" ? state[name].slice(0, 10) : state[name];
    if (node.value || !state[name] || node.type === "date") continue;
    node.append(h("option", { value: state[name] }, visible(state[name]))); // a link's, unknown here
    node.value = state[name];
  }
  const count = countFilters(state);
  byId("clear-filters").hidden = byId("filter-count").hidden = count === 0;
  byId("filter-count").textContent = `${count} set`;
}

/** What the fields hold: phrasings and excluded words. */
export function texts() {
  const of = (place) => [...byId(place).querySelectorAll("input")].map((input) => input.value.trim());
  return {
    q: [byId("q").value.trim(), ...of("phrasings")].filter(Boolean),
    not: of("excluded").filter(Boolean),
  };
}

/** Fills the choices and the size of the gallery. */
export function offer(summary) {
  choose("folder", folders(summary.folders ?? []));
  choose("camera", (summary.cameras ?? []).map((name) => [name, name]));
  byId("gallery-size").textContent = counted(summary.pictures, "picture");
  for (const name of ["since", "until"]) {
    field(name).min = dateOf(summary.first_taken);
    field(name).max = dateOf(summary.last_taken);
  }
}

/** Listens. `on` holds submit(), picture(file), forget() and filter(fields that changed). */
export function listen(on) {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    on.submit();
  });
  for (const place of ["phrasings", "excluded"]) {
    byId(`add-${place}`).addEventListener("click", () => {
      byId(place).append(row(place, ""));
      number();
      byId(place).lastChild.querySelector("input").focus();
    });
  }
  byId("pick").addEventListener("click", () => byId("upload").click());
  byId("upload").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) on.picture(file);
    event.target.value = ""; // the same file can be chosen again
  });
  byId("basis").addEventListener("click", (event) => {
    if (!event.target.closest("button")) return;
    on.forget();
    byId("q").focus();
  });
  byId("filter-form").addEventListener("submit", (event) => event.preventDefault());
  byId("filter-form").addEventListener("change", ({ target }) => on.filter({ [target.name]: target.value }));
  byId("clear-filters").addEventListener("click", () => {
    on.filter(withoutFilters());
    field("folder").focus();
  });
  const wide = matchMedia("(min-width: 60rem)");
  const unfold = () => (byId("filters").open = wide.matches);
  wide.addEventListener("change", unfold);
  unfold();
  listenToDrops(on.picture);
}

const ROWS = {
  phrasings: { word: "or", name: "Phrasing", first: 2, most: MOST_PHRASINGS - 1, hint: "the same person in other words" },
  excluded: {
    word: "not",
    name: "Excluded words",
    first: 1,
    most: MOST_PHRASINGS,
    hint: "words that count against a picture, such as umbrella",
  },
};

function row(place, text) {
  const { word, hint } = ROWS[place];
  const input = h("input", { type: "text", maxlength: "2000", placeholder: hint, enterkeyhint: "search", value: text });
  const remove = h("button", { type: "button", class: "quiet square" }, icon("close"));
  const node = h("div", { class: `bar row ${place}` }, h("span", { class: "kind", "aria-hidden": "true" }, word), input, remove);
  remove.addEventListener("click", () => {
    const before = node.previousElementSibling?.querySelector("input") ?? byId("q");
    node.remove();
    number();
    before.focus();
  });
  return node;
}

function number() {
  for (const [place, { name, first, most }] of Object.entries(ROWS)) {
    const nodes = [...byId(place).children];
    nodes.forEach((node, i) => {
      node.querySelector("input").setAttribute("aria-label", `${name} ${i + first}`);
      node.querySelector("button").setAttribute("aria-label", `Remove ${name.toLowerCase()} ${i + first}`);
    });
    byId(`add-${place}`).disabled = nodes.length >= most;
  }
}

function showBasis(state, file) {
  if (preview) URL.revokeObjectURL(preview);
  preview = file ? URL.createObjectURL(file) : "";
  const place = byId("basis");
  place.hidden = !file && !state.like;
  place.replaceChildren();
  if (place.hidden) return;
  const which = file ? "your picture" : "this picture";
  // Words decide the order among the pictures that are near.
  const title = state.q.length ? `Pictures near ${which}, ordered by your words` : `Results resemble ${which}`;
  const note = file ? "Your picture is not part of the link and is not kept." : "Add words to narrow the search.";
  place.append(
    h("img", { alt: file ? "Your picture" : "The picture to search by", src: preview || thumbnailAddress(state.like) }),
    h("div", {}, h("strong", {}, title), h("span", { class: "hint" }, note)),
    h("button", { type: "button", class: "quiet square", "aria-label": "Search without this picture" }, icon("close")),
  );
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
  return [...all].sort().map((name) => [name, name.split("/").slice(shared).join("/")]);
}

function choose(name, pairs) {
  const select = field(name);
  const chosen = select.value;
  const options = pairs.map(([value, label]) => h("option", { value, title: value }, visible(label)));
  select.replaceChildren(select.options[0], ...options);
  if (chosen && !pairs.some(([value]) => value === chosen)) select.append(h("option", { value: chosen }, visible(chosen)));
  select.value = chosen;
}

function dateOf(seconds) {
  return typeof seconds === "number" ? new Date(seconds * 1000).toISOString().slice(0, 10) : "";
}

function listenToDrops(take) {
  const veil = byId("drop");
  const holdsFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    veil.hidden = true;
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file) take(file);
  });
}
