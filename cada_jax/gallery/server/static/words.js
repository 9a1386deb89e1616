// The words of a description as buttons; the one in use lights its patches up over the picture.

import { association } from "./api.js";
import { bar, byId, h } from "./dom.js";
import { describe, draw, wholeWords } from "./heat.js";
import * as notices from "./notices.js";

const MOST_GATE = 2; // a gate lies in (0, 2)
const INVITATION = "Choose a word to see where it looks.";
let id = "";
let pressed = -1; // number of the word that is kept lit
let words = [];
let controller = new AbortController();

/** Explains a picture in the words of a search; without words it asks for some. */
export function show(picture, texts) {
  id = picture;
  reset();
  const select = byId("phrasing");
  select.hidden = texts.length < 2;
  select.replaceChildren(...texts.map((text) => h("option", {}, text)));
  byId("explain-text").value = texts[0] ?? "";
  for (const choice of ["layer-choice", "head-choice"]) byId(choice).replaceChildren();
  byId("choices").hidden = true;
  load();
}

/** Stops what is on its way and takes the map away. */
export function reset() {
  controller.abort();
  pressed = -1;
  words = [];
  byId("words").replaceChildren();
  notices.clear(byId("words-notice"));
  draw(byId("heat"), null);
  byId("map-text").textContent = "";
}

/** Listens to the form; call once. */
export function listen() {
  byId("explain").addEventListener("submit", (event) => {
    event.preventDefault();
    pressed = -1;
    load();
  });
  byId("phrasing").addEventListener("change", (event) => {
    byId("explain-text").value = event.target.value;
    pressed = -1;
    load();
  });
  for (const choice of ["layer-choice", "head-choice"]) byId(choice).addEventListener("change", load);
  byId("words").addEventListener("keydown", moveByKeys);
}

async function load() {
  const text = byId("explain-text").value.trim();
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  notices.clear(byId("words-notice"));
  if (!text) {
    byId("words").replaceChildren();
    byId("map-text").textContent = "Describe the person, then choose a word to see where it looks.";
    return;
  }
  byId("words").setAttribute("aria-busy", "true");
  try {
    const [layer, head] = ["layer-choice", "head-choice"].map((choice) => byId(choice).value);
    const answer = await association(id, text, layer, head, signal);
    if (signal.aborted) return;
    words = wholeWords(answer.tokens);
    offer("layer-choice", "Average of layers", "Layer", answer.layers);
    offer("head-choice", "Average of heads", "Head", answer.heads);
    byId("choices").hidden = answer.layers * answer.heads < 2;
    render(layer);
  } catch (refusal) {
    if (refusal.name === "AbortError") return;
    byId("words").replaceChildren();
    notices.error(byId("words-notice"), refusal, load, "h4");
  } finally {
    if (!signal.aborted) byId("words").removeAttribute("aria-busy");
  }
}

function offer(choice, average, name, count) {
  const select = byId(choice);
  if (select.options.length === count + 1) return;
  const numbers = Array.from({ length: count }, (_, i) => h("option", { value: i }, `${name} ${i + 1}`));
  select.replaceChildren(h("option", { value: "" }, average), ...numbers);
}

function render(layer) {
  const buttons = words.map((each, i) => {
    const gate = layer === "" ? each.gate : (each.gates?.[Number(layer)] ?? each.gate);
    const children = [h("span", { class: "word" }, each.word)];
    if (gate !== null) {
      const label = h("span", { class: "visually-hidden" }, ", gate ");
      children.push(bar(gate / MOST_GATE), label, h("span", { class: "value" }, gate.toFixed(2)));
    }
    return h(
      "button",
      {
        type: "button",
        "aria-pressed": "false",
        onclick: () => press(i),
        onpointerenter: (event) => event.pointerType === "mouse" && light(i),
        onpointerleave: () => light(pressed),
        onfocus: () => light(i),
        onblur: () => light(pressed),
      },
      children,
    );
  });
  byId("words").replaceChildren(...buttons);
  if (pressed >= words.length) pressed = -1;
  mark();
  light(pressed);
}

function press(i) {
  pressed = pressed === i ? -1 : i;
  mark();
  light(pressed);
}

function mark() {
  [...byId("words").children].forEach((node, i) => node.setAttribute("aria-pressed", String(i === pressed)));
}

function light(i) {
  const each = words[i];
  draw(byId("heat"), each?.map ?? null);
  byId("map-text").textContent = each ? describe(each.word, each.map) : words.length ? INVITATION : "";
  [...byId("words").children].forEach((node, j) => node.classList.toggle("lit", j === i));
}

function moveByKeys(event) {
  const buttons = [...byId("words").children];
  const here = buttons.indexOf(document.activeElement);
  const steps = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: buttons.length - 1 };
  const next = here >= 0 && event.key in steps ? buttons[steps[event.key]] : null;
  if (!next) return;
  event.preventDefault();
  event.stopPropagation();
  next.focus();
}
