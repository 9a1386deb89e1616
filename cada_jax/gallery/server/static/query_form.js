// The text box, further phrasings, excluded words, and the picture to search by.

import { thumbnailAddress } from "./api.js";
import { byId, h, icon } from "./dom.js";

const MOST_PHRASINGS = 8;
let drawn = ""; // the fields on the page, to leave alone what a person is typing in

/** Writes what is asked into the fields. `file` is an uploaded picture. */
export function fill(state, file) {
  byId("q").value = state.q[0] ?? "";
  const now = JSON.stringify([state.q, state.not]);
  if (now !== drawn) {
    byId("phrasings").replaceChildren(...state.q.slice(1).map((text) => phrasing(text)));
    byId("excluded").replaceChildren(...state.not.map((text) => excluded(text)));
    number();
  }
  drawn = now;
  showBasis(state, file);
}

/** What the fields hold: phrasings and excluded words. */
export function texts() {
  const of = (place) => [...byId(place).querySelectorAll("input")].map((input) => input.value.trim());
  return {
    q: [byId("q").value.trim(), ...of("phrasings")].filter(Boolean),
    not: of("excluded").filter(Boolean),
  };
}

/** Listens to the form. `on` holds submit(), picture(file) and forget(). */
export function listen(on) {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    on.submit();
  });
  byId("add-phrasing").addEventListener("click", () => add("phrasings", phrasing("")));
  byId("add-excluded").addEventListener("click", () => add("excluded", excluded("")));
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
  listenToDrops(on.picture);
}

function add(place, row) {
  byId(place).append(row);
  number();
  row.querySelector("input").focus();
}

function phrasing(text) {
  return row(text, "phrasing", "the same person in other words");
}

function excluded(text) {
  return row(text, "excluded", "words that count against a picture, such as umbrella");
}

function row(text, kind, placeholder) {
  const input = h("input", { type: "text", maxlength: "2000", placeholder, enterkeyhint: "search", value: text });
  const remove = h("button", { type: "button", class: "quiet square" }, icon("close"));
  const node = h("div", { class: `bar row ${kind}` }, h("span", { class: "kind", "aria-hidden": "true" }, kind === "excluded" ? "not" : "or"), input, remove);
  remove.addEventListener("click", () => {
    const before = node.previousElementSibling?.querySelector("input") ?? byId("q");
    node.remove();
    number();
    before.focus();
  });
  return node;
}

function number() {
  for (const [place, name, first] of [["phrasings", "Phrasing", 2], ["excluded", "Excluded words", 1]]) {
    [...byId(place).children].forEach((node, i) => {
      const label = `${name} ${i + first}`;
      node.querySelector("input").setAttribute("aria-label", label);
      node.querySelector("button").setAttribute("aria-label", `Remove ${label.toLowerCase()}`);
    });
  }
  byId("add-phrasing").disabled = byId("phrasings").children.length >= MOST_PHRASINGS - 1;
  byId("add-excluded").disabled = byId("excluded").children.length >= MOST_PHRASINGS;
}

let address = ""; // of the uploaded picture's preview

function showBasis(state, file) {
  if (address) URL.revokeObjectURL(address);
  address = file ? URL.createObjectURL(file) : "";
  const place = byId("basis");
  place.hidden = !file && !state.like;
  if (place.hidden) {
    place.replaceChildren();
    return;
  }
  const picture = h("img", { alt: file ? "Your picture" : "The picture that results resemble", src: address || thumbnailAddress(state.like) });
  picture.addEventListener("error", () => picture.classList.add("broken"));
  const note = file ? "Your picture is not part of the link and is not kept." : "Add words to narrow the search.";
  const title = file ? "Results resemble your picture" : "Results resemble this picture";
  place.replaceChildren(
    picture,
    h("div", {}, h("strong", {}, title), h("span", { class: "hint" }, note)),
    h("button", { type: "button", class: "quiet square", "aria-label": "Search without this picture" }, icon("close")),
  );
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
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file) take(file);
  });
}
