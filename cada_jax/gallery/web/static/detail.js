// The dialog of one picture: the scene, the person's box, its words and attributes.

import * as api from "./api.js";
import { bar, byId, h, numberText, visible } from "./dom.js";
import * as notices from "./notices.js";
import { day } from "./results.js";
import * as words from "./words.js";

let shown = null; // record of the picture in the dialog
let controller = new AbortController();

/** Listens to the dialog. `on` holds closed(), like(record) and step(+1 or -1). */
export function listen(on) {
  const dialog = byId("detail");
  dialog.addEventListener("close", () => {
    controller.abort();
    words.reset();
    shown = null;
    on.closed();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside the dialog
  });
  byId("close").addEventListener("click", () => dialog.close());
  byId("previous").addEventListener("click", () => on.step(-1));
  byId("next").addEventListener("click", () => on.step(1));
  byId("detail-like").addEventListener("click", () => on.like(shown));
  byId("view-scene").addEventListener("click", () => look("scene"));
  byId("view-person").addEventListener("click", () => look("person"));
  byId("scene").addEventListener("error", () => sceneFailed());
  words.listen();
}

/** Opens the dialog. `results` are those on the page; the picture may be none of them. */
export async function open(id, results, texts) {
  const dialog = byId("detail");
  if (shown?.id === id && dialog.open) return;
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  shown = { id };
  relate(results);
  const known = Boolean(shown.name);
  if (!dialog.open) {
    dialog.showModal();
    byId("detail-title").focus(); // the name is read first, not a button
  }
  dialog.scrollTop = 0;
  words.reset();
  try {
    if (!known) shown = { ...(await api.about(id, "", signal)), ...shown };
  } catch (refusal) {
    if (refusal.name === "AbortError") return;
    failed(refusal, () => {
      shown = null;
      open(id, results, texts);
    });
    return;
  }
  render();
  words.show(id, texts);
  readAttributes(id, signal);
}

/** Says which of the results the picture in the dialog is; they may come after it was opened. */
export function relate(results) {
  if (!shown) return;
  const rank = results.findIndex((each) => each.id === shown.id);
  byId("previous").disabled = rank <= 0;
  byId("next").disabled = rank < 0 || rank === results.length - 1;
  if (rank >= 0) shown = results[rank];
  byId("detail-score").textContent = rank < 0 ? "" : `Result ${rank + 1} · score ${numberText(shown.score)}`;
  if (shown.name) listFacts();
}

/** Closes the dialog, if it is open. */
export function close() {
  if (byId("detail").open) byId("detail").close();
}

function failed(refusal, retry) {
  byId("detail-title").textContent = "Picture";
  byId("detail-score").textContent = "";
  byId("stage").hidden = byId("views").hidden = true;
  byId("record").replaceChildren();
  byId("attributes").replaceChildren();
  notices.error(byId("words-notice"), refusal, retry, "h4");
}

function listFacts() {
  const size = `${shown.width} × ${shown.height} pixels`;
  const number = (value, digits) => (typeof value === "number" ? numberText(value, digits) : "");
  const facts = [
    ["Similarity", number(shown.similarity, 3)],
    ["Match", number(shown.match_logit, 2)],
    ["Name", visible(shown.name)],
    ["Folder", visible(shown.folder)],
    ["Taken", `${day(shown.taken)} ${(shown.taken ?? "").slice(11, 16)}`.trim()],
    ["Camera", visible(shown.camera ?? "")],
    ["Size", shown.box ? `${size}, the person ${shown.box.slice(2).map(Math.round).join(" × ")}` : size],
  ];
  const rows = facts.filter(([, text]) => text).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)));
  byId("record").replaceChildren(...rows);
}

function render() {
  byId("detail-title").textContent = visible(shown.name);
  listFacts();
  const scene = byId("scene");
  scene.src = api.sceneAddress(shown.id);
  scene.alt = shown.box ? `The scene of ${visible(shown.name)}, the person framed` : visible(shown.name);
  byId("stage").hidden = false;
  byId("stage").classList.remove("missing");
  byId("views").hidden = !shown.box;
  look("scene");
}

/** Shows the whole scene, or the person's box filling the stage. */
function look(view) {
  const whole = [0, 0, shown.width, shown.height];
  const box = shown.box ?? whole;
  const [x, y, width, height] = view === "person" ? box : whole;
  const percent = (part, all) => `${(part / all) * 100}%`;
  const stage = byId("stage").style;
  stage.aspectRatio = `${width} / ${height}`;
  stage.setProperty("--aspect", width / height);
  const layer = byId("layer").style;
  layer.width = percent(shown.width, width);
  layer.height = percent(shown.height, height);
  layer.left = percent(-x, width);
  layer.top = percent(-y, height);
  for (const id of ["box", "heat"]) {
    const part = byId(id).style;
    part.left = percent(box[0], shown.width);
    part.top = percent(box[1], shown.height);
    part.width = percent(box[2], shown.width);
    part.height = percent(box[3], shown.height);
  }
  byId("box").hidden = !shown.box || view === "person";
  byId("view-scene").setAttribute("aria-pressed", String(view === "scene"));
  byId("view-person").setAttribute("aria-pressed", String(view === "person"));
}

function sceneFailed() {
  byId("stage").classList.add("missing");
  byId("scene").alt = "The picture cannot be shown: its file changed or is gone.";
}

async function readAttributes(id, signal) {
  const place = byId("attributes");
  place.replaceChildren(h("p", { class: "hint" }, "Reading…"));
  try {
    const { readings } = await api.about(id, "/attributes", signal);
    if (signal.aborted) return;
    place.replaceChildren(readings.length ? readingTable(readings) : h("p", { class: "hint" }, "Nothing is read off this picture."));
  } catch (refusal) {
    if (refusal.name === "AbortError") return;
    notices.error(place, refusal, () => readAttributes(id, signal), "h4");
  }
}

function readingTable(readings) {
  const line = ({ word, probability }) =>
    h(
      "li",
      {},
      h("span", { class: "word" }, word),
      bar(probability),
      h("span", { class: "value" }, `${Math.round(probability * 100)} %`),
    );
  const part = (reading) => h("div", {}, h("dt", {}, reading.part), h("dd", {}, h("ul", {}, reading.words.map(line))));
  return h("dl", { class: "readings" }, readings.map(part));
}
