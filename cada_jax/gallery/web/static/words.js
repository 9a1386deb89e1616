// The words of a description as buttons; the one in use lights its patches up over the picture.

import { about } from "./api.js";
import { bar, byId, h, moveByKeys } from "./dom.js";
import * as notices from "./notices.js";

const MOST_GATE = 2; // a gate lies in (0, 2)
const CELL = 48; // pixels of the canvas across one patch
const INVITATION = "Choose a word to see where it looks.";
const CHOICES = { "layer-choice": "layer", "head-choice": "head" };
let id = "";
let pressed = -1; // number of the word that is kept lit
let words = [];
let controller = new AbortController();

/** Explains a picture in the words of a search; without words it asks for some. */
export function show(picture, texts) {
  id = picture;
  reset();
  byId("phrasing").hidden = texts.length < 2;
  byId("phrasing").replaceChildren(...texts.map((text) => h("option", {}, text)));
  byId("explain-text").value = texts[0] ?? "";
  for (const choice of Object.keys(CHOICES)) byId(choice).replaceChildren();
  byId("choices").hidden = true;
  load();
}

/** Stops what is on its way and takes the map away. */
export function reset() {
  controller.abort();
  pressed = -1;
  words = [];
  byId("words").replaceChildren();
  byId("words-notice").replaceChildren();
  light(-1);
}

/** Listens to the form; call once. */
export function listen() {
  const anew = () => {
    pressed = -1;
    load();
  };
  byId("explain").addEventListener("submit", (event) => {
    event.preventDefault();
    anew();
  });
  byId("phrasing").addEventListener("change", (event) => {
    byId("explain-text").value = event.target.value;
    anew();
  });
  for (const choice of Object.keys(CHOICES)) byId(choice).addEventListener("change", load);
  byId("words").addEventListener("keydown", (event) => moveByKeys(event, [...byId("words").children]));
}

async function load() {
  const text = byId("explain-text").value.trim();
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  byId("words-notice").replaceChildren();
  if (!text) {
    byId("words").replaceChildren();
    byId("map-text").textContent = "Describe the person, then choose a word to see where it looks.";
    return;
  }
  byId("words").setAttribute("aria-busy", "true");
  try {
    const asked = new URLSearchParams({ q: text });
    for (const [choice, name] of Object.entries(CHOICES)) if (byId(choice).value) asked.set(name, byId(choice).value);
    const answer = await about(id, `/association?${asked}`, signal);
    if (signal.aborted) return;
    words = answer.tokens;
    for (const [choice, name] of Object.entries(CHOICES)) offer(choice, name, answer[`${name}s`]);
    byId("choices").hidden = answer.layers * answer.heads < 2;
    render();
  } catch (refusal) {
    if (refusal.name === "AbortError") return;
    byId("words").replaceChildren();
    notices.error(byId("words-notice"), refusal, load, "h4");
  } finally {
    if (!signal.aborted) byId("words").removeAttribute("aria-busy");
  }
}

function offer(choice, name, count) {
  const select = byId(choice);
  if (select.options.length === count + 1) return;
  const title = name[0].toUpperCase() + name.slice(1);
  const numbers = Array.from({ length: count }, (_, i) => h("option", { value: i }, `${title} ${i + 1}`));
  select.replaceChildren(h("option", { value: "" }, `All ${name}s`), ...numbers);
}

function render() {
  const buttons = words.map((each, i) => {
    const { gate } = each;
    const value = gate === null ? [] : [bar(gate / MOST_GATE), h("span", { class: "visually-hidden" }, ", gate "), h("span", { class: "value" }, gate.toFixed(2))];
    return h(
      "button",
      {
        type: "button",
        onclick: () => press(i),
        onpointerenter: (event) => event.pointerType === "mouse" && light(i),
        onpointerleave: () => light(pressed),
        onfocus: () => light(i),
        onblur: () => light(pressed),
      },
      h("span", { class: "word" }, each.word),
      value,
    );
  });
  byId("words").replaceChildren(...buttons);
  press(pressed < words.length ? pressed : -1, true);
}

function press(i, keep = false) {
  pressed = pressed === i && !keep ? -1 : i;
  [...byId("words").children].forEach((node, j) => node.setAttribute("aria-pressed", String(j === pressed)));
  light(pressed);
}

function light(i) {
  const each = words[i];
  draw(byId("heat"), each?.map ?? null);
  byId("map-text").textContent = each ? described(each.word, each.map) : words.length ? INVITATION : "";
  [...byId("words").children].forEach((node, j) => node.classList.toggle("lit", j === i));
}

/** Lights the patches up in proportion to their weight; null clears the canvas. */
function draw(canvas, map) {
  const rows = map?.length ?? 1;
  const columns = map?.[0]?.length ?? 1;
  const shape = canvas.clientHeight / canvas.clientWidth || rows / columns;
  const height = Math.max(4, Math.round((shape * columns * CELL) / rows)); // patches need not be square
  canvas.width = columns * CELL;
  canvas.height = rows * height;
  if (!map) return;
  const context = canvas.getContext("2d");
  const most = Math.max(...map.flat(), Number.MIN_VALUE);
  map.forEach((row, r) =>
    row.forEach((weight, c) => {
      const share = Math.max(0, weight) / most;
      context.fillStyle = `rgb(12 16 24 / ${(0.66 * (1 - share)).toFixed(3)})`;
      context.fillRect(c * CELL, r * height, CELL, height);
      context.fillStyle = `rgb(255 176 32 / ${(0.5 * share).toFixed(3)})`;
      context.fillRect(c * CELL, r * height, CELL, height);
      if (share <= 0.55) return;
      context.strokeStyle = `rgb(255 214 120 / ${share.toFixed(3)})`;
      context.lineWidth = 3;
      context.strokeRect(c * CELL + 2, r * height + 2, CELL - 4, height - 4);
    }),
  );
}

/** One sentence: where a map is strongest. */
function described(word, map) {
  const cells = map.flatMap((row, r) => row.map((weight, c) => ({ weight: Math.max(0, weight), r, c })));
  const total = cells.reduce((sum, cell) => sum + cell.weight, 0);
  if (!total) return `“${word}” looks at no patch.`;
  const top = cells.reduce((best, cell) => (cell.weight > best.weight ? cell : best));
  const third = (index, count, names) => names[Math.min(2, Math.floor(((index + 0.5) / count) * 3))];
  const level = third(top.r, map.length, ["upper", "middle", "lower"]);
  const side = third(top.c, map[0].length, ["left", "centre", "right"]);
  const share = Math.round((top.weight / total) * 100);
  return (
    `“${word}” looks most at the ${level} ${side}: row ${top.r + 1} of ${map.length}, ` +
    `column ${top.c + 1} of ${map[0].length}, with ${share} % of its weight.`
  );
}
