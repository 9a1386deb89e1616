// The grid of results, its cut-off, and moving through it with the arrow keys.

import { sceneAddress, thumbnailAddress } from "./api.js";
import { announce, byId, counted, h, icon, moveByKeys, numberText, visible } from "./dom.js";

const SKELETONS = 12;
const MOST_TICKS = 200;
let cards = []; // {result, node} of the results shown, best first
let placed = ""; // which of them stand above the line, "" before they are placed

/** The results shown, best first. */
export const shown = () => cards.map((each) => each.result);

/** Nothing is shown. */
export function clear() {
  cards = [];
  placed = "";
  byId("results").removeAttribute("aria-busy");
  byId("above").replaceChildren();
  byId("below").replaceChildren();
  byId("toolbar").hidden = byId("below-part").hidden = byId("more").hidden = true;
}

/** Cards that stand for results which are on their way. */
export function loading() {
  clear();
  byId("results").setAttribute("aria-busy", "true");
  const blank = () => h("li", { class: "card skeleton", "aria-hidden": "true" }, h("div", { class: "tile" }), h("div", { class: "blank" }));
  byId("above").replaceChildren(...Array.from({ length: SKELETONS }, blank));
}

/** Shows an answer after the results that are kept. `on` holds open(result) and like(result). */
export function show(answer, kept, on) {
  byId("results").removeAttribute("aria-busy");
  placed = "";
  cards = cards.slice(0, kept);
  const known = new Set(cards.map((each) => each.result.id)); // a gallery may grow between two pages
  for (const result of answer.results.filter((each) => !known.has(each.id))) {
    cards.push({ result, node: card(result, cards.length + 1, on) });
  }
  byId("results").style.setProperty("--tile-aspect", tileAspect(shown()));
  const size = counted(answer.gallery_size, "picture");
  const took = answer.seconds < 1 ? `${Math.ceil(answer.seconds * 1000)} ms` : `${answer.seconds.toFixed(1)} s`;
  byId("count").textContent = `${counted(cards.length, "result")} of ${size} in ${took}`;
  byId("toolbar").hidden = cards.length === 0;
  prepareSlider();
}

/**
 * Puts every card above or below the cut-off, null for none. What the decoder did not score stands
 * below it: its score is of another kind.
 */
export function cutAt(cutoff) {
  if (!cards.length) return; // they are on their way
  const decoded = cards.some(({ result }) => result.match_logit !== null);
  const passes = ({ result }) => (cutoff === null || result.score >= cutoff) && (!decoded || result.match_logit !== null);
  const above = cards.filter(passes);
  const below = cards.filter((each) => !passes(each));
  const now = `${above.length} of ${cards.length}`;
  if (placed !== now) {
    // Only when they change places: a moved element loses the focus and has to get it back.
    const focused = document.activeElement;
    byId("above").replaceChildren(...above.map((each) => each.node));
    byId("below").replaceChildren(...below.map((each) => each.node));
    if (document.activeElement !== focused) focused.focus({ preventScroll: true });
    placed = now;
  }
  const text = cutoff === null ? "" : numberText(cutoff);
  byId("below-part").hidden = below.length === 0;
  byId("below").classList.toggle("dimmed", cutoff !== null);
  byId("below-title").textContent = `${text ? `Below your cut-off of ${text}` : "By likeness alone"}: ${counted(below.length, "result")}`;
  const number = byId("cutoff-number");
  if (document.activeElement !== number) number.value = cutoff ?? ""; // not under a person's hands
  byId("cutoff").value = cutoff ?? byId("cutoff").min;
  byId("cutoff").setAttribute("aria-valuetext", text || "no cut-off");
  byId("cutoff-clear").hidden = !text;
}

/** Says how many results there are, and how many pass the cut-off. */
export function announceCount() {
  const above = byId("above").children.length;
  announce(`${counted(cards.length, "result")}${above < cards.length ? `, ${above} above the line` : ""}.`);
}

/** Puts the focus on the card of a picture; whether there is one. */
export function focus(id) {
  const found = cards.find((each) => each.result.id === id);
  if (!found?.node.isConnected) return false;
  found.node.querySelector(".open").focus();
  return true;
}

/** Listens to the cut-off, change(number or null, whether it is final), and to the arrow keys. */
export function listen(change) {
  const slider = byId("cutoff");
  const number = byId("cutoff-number");
  const value = (node) => (node.value === "" || (node === slider && node.value === node.min) ? null : node.valueAsNumber);
  for (const node of [slider, number]) {
    for (const kind of ["input", "change"]) node.addEventListener(kind, () => change(value(node), kind === "change"));
  }
  byId("cutoff-clear").addEventListener("click", () => {
    change(null, true);
    slider.focus();
  });
  byId("results").addEventListener("keydown", (event) => moveByKeys(event, [...byId("results").querySelectorAll(".open")]));
}

/** The day of an ISO time, as the filters take it; "" for none. */
export const day = (taken) => (taken ?? "").slice(0, 10);

function card(result, rank, on) {
  const name = visible(result.name);
  const score = numberText(result.score);
  const others = result.others > 0 ? `+ ${result.others}` : "";
  const doubt = result.good_match === false ? "no good match" : ""; // null where nobody judged
  const alt = `Result ${rank}, score ${score}${doubt && `, ${doubt}`}: ${name}${others && `, and ${result.others} more like it`}`;
  const picture = h("img", { src: thumbnailAddress(result.id), alt, loading: "lazy", decoding: "async" });
  const tile = h("span", { class: "tile" }, picture);
  picture.addEventListener("error", () => {
    tile.classList.add("missing");
    picture.alt += ", the picture cannot be shown";
  });
  const open = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab shows the scene
    event.preventDefault();
    on.open(result);
  };
  return h(
    "li",
    { class: "card" },
    h("a", { class: "open", href: sceneAddress(result.id), "data-id": result.id, onclick: open }, tile),
    others && h("span", { class: "badge others", "aria-hidden": "true" }, others),
    h(
      "div",
      { class: "meta" },
      h("p", { class: "rank", "aria-hidden": "true" }, h("span", {}, String(rank)), h("strong", {}, score)),
      doubt && h("span", { class: "badge", "aria-hidden": "true" }, doubt),
      h("p", { class: "name", title: name, "aria-hidden": "true" }, name),
      h("p", { class: "when" }, day(result.taken), h("span", {}, result.camera ? ` · ${visible(result.camera)}` : "")),
    ),
    h(
      "button",
      { type: "button", class: "quiet like", "aria-label": `More like result ${rank}`, onclick: () => on.like(result) },
      icon("like"),
      h("span", {}, "More like this"),
    ),
  );
}

function tileAspect(results) {
  const aspects = results.map((r) => (r.box ? r.box[2] / r.box[3] : r.width / r.height)).filter((a) => a > 0);
  aspects.sort((a, b) => a - b);
  const middle = aspects[Math.floor(aspects.length / 2)] ?? 0.5;
  return Math.min(1.4, Math.max(0.5, middle)).toFixed(3);
}

function prepareSlider() {
  const scores = shown().map((result) => result.score);
  const least = Math.floor(Math.min(...scores) * 100) / 100;
  const most = Math.max(Math.ceil(Math.max(...scores) * 100) / 100, least + 0.01);
  Object.assign(byId("cutoff"), { min: least, max: most, step: 0.01 });
  const ticks = scores.slice(0, MOST_TICKS).map((score) => {
    const tick = h("i");
    tick.style.insetInlineStart = `${((score - least) / (most - least)) * 100}%`;
    return tick;
  });
  byId("ticks").replaceChildren(...ticks);
}
