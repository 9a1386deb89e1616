// The grid of results, its cut-off, and moving through it with the arrow keys.

import { sceneAddress, thumbnailAddress } from "./api.js";
import { announce, byId, counted, h, icon, visible } from "./dom.js";

const SKELETONS = 12;
const MOST_TICKS = 200;
let cards = []; // {result, node} of the results shown, best first
let placed = -1; // so many of them are above the cut-off; -1 before they are placed

/** Cards that stand for results which are on their way. */
export function loading() {
  cards = [];
  placed = -1;
  byId("results").setAttribute("aria-busy", "true");
  byId("toolbar").hidden = byId("below-part").hidden = true;
  byId("more").hidden = true;
  const blank = () => h("li", { class: "card skeleton", "aria-hidden": "true" }, h("div", { class: "tile" }), h("div", { class: "blank" }));
  byId("above").replaceChildren(...Array.from({ length: SKELETONS }, blank));
}

/** Nothing is shown. */
export function clear() {
  cards = [];
  placed = -1;
  byId("results").removeAttribute("aria-busy");
  byId("above").replaceChildren();
  byId("below").replaceChildren();
  byId("toolbar").hidden = byId("below-part").hidden = true;
  byId("more").hidden = true;
}

/** Shows an answer. `on` holds open(result) and like(result). */
export function show(answer, on) {
  byId("results").removeAttribute("aria-busy");
  placed = -1;
  cards = answer.results.map((result, i) => ({ result, node: card(result, i + 1, on) }));
  byId("results").style.setProperty("--tile-aspect", tileAspect(answer.results));
  const size = counted(answer.gallery_size, "picture");
  const took = answer.seconds < 1 ? `${Math.ceil(answer.seconds * 1000)} ms` : `${answer.seconds.toFixed(1)} s`;
  byId("count").textContent = `${counted(cards.length, "result")} of ${size} in ${took}`;
  byId("toolbar").hidden = cards.length === 0;
  prepareSlider();
}

/** Puts every card above or below the cut-off, null for none; says how many. */
export function cutAt(cutoff) {
  if (!cards.length) return { above: 0, below: 0 }; // they are on their way
  const passes = ({ result }) => cutoff === null || result.score >= cutoff;
  const above = cards.filter(passes);
  const below = cards.filter((each) => !passes(each));
  if (placed !== above.length) {
    // Only when they change places: a moved element loses the focus and has to get it back.
    const focused = document.activeElement;
    byId("above").replaceChildren(...above.map((each) => each.node));
    byId("below").replaceChildren(...below.map((each) => each.node));
    if (document.activeElement !== focused) focused.focus({ preventScroll: true });
    placed = above.length;
  }
  byId("below-part").hidden = below.length === 0;
  byId("below-title").textContent = `Below your cut-off of ${withMinus(cutoff)}: ${counted(below.length, "result")}`;
  const number = byId("cutoff-number");
  if (document.activeElement !== number) number.value = cutoff ?? ""; // not under a person's hands
  byId("cutoff").value = cutoff ?? byId("cutoff").min;
  byId("cutoff").setAttribute("aria-valuetext", cutoff === null ? "no cut-off" : withMinus(cutoff));
  byId("cutoff-clear").hidden = cutoff === null;
  return { above: above.length, below: below.length };
}

/** The results shown, best first. */
export const shown = () => cards.map((each) => each.result);

/** Puts the focus on the card of a picture; whether there is one. */
export function focus(id) {
  const found = cards.find((each) => each.result.id === id);
  if (!found?.node.isConnected) return false;
  found.node.querySelector(".open").focus();
  return true;
}

/** A score as it is shown, with a minus sign that is read aloud. */
export const scoreText = (score, digits = 2) => withMinus(score.toFixed(digits));

const withMinus = (text) => String(text).replace("-", "\u2212");

function card(result, rank, on) {
  const name = visible(result.name);
  const score = scoreText(result.score);
  const picture = h("img", {
    src: thumbnailAddress(result.id),
    alt: `Result ${rank}, score ${score}: ${name}`,
    loading: "lazy",
    decoding: "async",
  });
  const tile = h("span", { class: "tile" }, picture);
  picture.addEventListener("error", () => {
    tile.classList.add("missing");
    picture.alt += ", the picture cannot be shown";
  });
  return h(
    "li",
    { class: "card" },
    h(
      "a",
      { class: "open", href: sceneAddress(result.id), "data-id": result.id, onclick: (event) => open(event, result, on) },
      tile,
    ),
    h(
      "div",
      { class: "meta" },
      h("p", { class: "rank", "aria-hidden": "true" }, h("span", {}, String(rank)), h("strong", {}, score)),
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

function open(event, result, on) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab shows the scene
  event.preventDefault();
  on.open(result);
}

/** The day of an ISO time, in UTC like the filters; "" for none. */
export function day(taken) {
  return (taken ?? "").slice(0, 10);
}

function tileAspect(results) {
  const aspects = results.map((r) => (r.box ? r.box[2] / r.box[3] : r.width / r.height)).filter((a) => a > 0);
  aspects.sort((a, b) => a - b);
  const middle = aspects[Math.floor(aspects.length / 2)] ?? 0.5;
  return Math.min(1.4, Math.max(0.5, middle)).toFixed(3);
}

function prepareSlider() {
  const scores = cards.map((each) => each.result.score);
  const least = Math.floor(Math.min(...scores) * 100) / 100;
  const most = Math.ceil(Math.max(...scores) * 100) / 100;
  const slider = byId("cutoff");
  slider.min = least;
  slider.max = most > least ? most : least + 0.01;
  slider.step = 0.01;
  const span = slider.max - least;
  const ticks = scores.slice(0, MOST_TICKS).map((score) => {
    const tick = h("i");
    tick.style.insetInlineStart = `${((score - least) / span) * 100}%`;
    return tick;
  });
  byId("ticks").replaceChildren(...ticks);
}

/** Listens to the cut-off's parts; change(number or null) gets what is set. */
export function onCutoff(change) {
  const slider = byId("cutoff");
  const number = byId("cutoff-number");
  slider.addEventListener("input", () => change(slider.value === slider.min ? null : Number(slider.value)));
  number.addEventListener("input", () => {
    const value = number.valueAsNumber;
    if (number.value === "" || Number.isFinite(value)) change(number.value === "" ? null : value, true);
  });
  byId("cutoff-clear").addEventListener("click", () => {
    change(null);
    slider.focus();
  });
}

/** Arrow keys, Home and End move the focus from picture to picture. */
export function moveByKeys(event) {
  const opens = [...byId("results").querySelectorAll(".open")];
  const here = opens.indexOf(document.activeElement);
  if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const steps = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: opens.length - 1 };
  const next = event.key in steps ? opens[steps[event.key]] : vertical(opens, here, event.key);
  if (!next) return;
  event.preventDefault();
  next.focus();
}

function vertical(opens, here, key) {
  if (key !== "ArrowDown" && key !== "ArrowUp") return null;
  const from = opens[here].getBoundingClientRect();
  const way = key === "ArrowDown" ? 1 : -1;
  let best = null;
  let least = Infinity;
  for (const each of opens) {
    const to = each.getBoundingClientRect();
    const down = (to.top - from.top) * way;
    if (down <= 1) continue;
    const distance = down * 10 + Math.abs(to.left - from.left);
    if (distance < least) [best, least] = [each, distance];
  }
  return best;
}

/** Says how many results there are, and how many pass the cut-off. */
export function announceCount({ above, below }) {
  const all = counted(above + below, "result");
  announce(below ? `${all}, ${above} above your cut-off.` : `${all}.`);
}
