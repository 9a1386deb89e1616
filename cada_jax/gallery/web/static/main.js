// Puts the parts together: the address holds the state, every change goes through it.

import * as api from "./api.js";
import * as detail from "./detail.js";
import { announce, byId } from "./dom.js";
import * as form from "./form.js";
import * as notices from "./notices.js";
import * as results from "./results.js";
import { MOST, PAGE, countFilters, isAsked, question, read, request, withoutFilters, write } from "./state.js";

const NEW = { k: PAGE, picture: "" }; // what a new question begins with
const uploads = new Map(); // pictures sent from this page, by the number in the history's entry
let state = read(location.search);
let upload = null; // number of the picture searched by
let asked = ""; // the question whose answer is shown or on its way
let opener = ""; // id of the picture whose dialog was opened last
let controller = new AbortController();
let empty = false; // whether the gallery holds no picture

/** Changes the state and with it the address; `replace` makes no new entry of the history. */
function go(changes, { replace = false, sent = upload } = {}) {
  state = { ...state, ...changes };
  replace ||= sent === upload && write(state) === (location.search || location.pathname);
  const entry = { upload: sent, inside: !replace || Boolean(history.state?.inside) };
  history[replace ? "replaceState" : "pushState"](entry, "", write(state));
  upload = sent;
  apply();
}

function arrive() {
  state = read(location.search);
  upload = uploads.has(history.state?.upload) ? history.state.upload : null;
  apply();
}

function apply() {
  form.fill(state, uploads.get(upload));
  document.title = state.q.length ? `${state.q[0]} – people` : "Search pictures of people";
  document.body.classList.toggle("asked", isAsked(state, upload));
  if (asked !== `${upload} ${question(state)}`) search();
  else if (isAsked(state, upload)) results.cutAt(state.cutoff);
  if (state.picture) showDetail();
  else detail.close();
}

/** Asks for the state's results, or for those after the ones that are kept. */
async function search(kept = 0) {
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  asked = `${upload} ${question(state)}`;
  const place = byId(kept ? "more-notice" : "notice");
  for (const each of ["notice", "more-notice"]) byId(each).replaceChildren();
  if (!isAsked(state, upload)) {
    results.clear();
    notices.show(place, empty ? "empty" : "home");
    return;
  }
  if (kept) byId("more").disabled = true;
  else results.loading();
  try {
    const answer = await api.search(request(state, kept), uploads.get(upload), signal);
    if (!signal.aborted) answered(answer, kept);
  } catch (refusal) {
    if (refusal.name === "AbortError") return;
    if (!kept) {
      asked = "";
      results.clear();
    }
    byId("more").disabled = false;
    notices.error(place, refusal, kept ? showMore : retry);
  }
}

function answered(answer, kept) {
  results.show(answer, kept, { open: (result) => go({ picture: result.id }), like });
  say("advice", answer.notice);
  if (!results.shown().length) {
    results.clear();
    if (answer.gallery_size === 0) notices.show(byId("notice"), "empty");
    else notices.nothingFound(byId("notice"), countFilters(state) ? () => go(withoutFilters()) : null);
    return;
  }
  results.cutAt(state.cutoff);
  results.announceCount();
  const button = byId("more");
  button.hidden = kept + answer.results.length < state.k || state.k >= MOST;
  button.disabled = false;
  button.textContent = `Show ${PAGE} more`;
  detail.relate(results.shown());
}

/** Shows a sentence of the server's; none hides its place. */
function say(place, text) {
  byId(place).textContent = text ? notices.sentence(text) : "";
  byId(place).hidden = !text;
}

function retry() {
  lookAround();
  search();
}

function submit() {
  const texts = form.texts();
  if (!texts.q.length && !state.like && upload === null) {
    announce("Describe a person, or choose a picture.");
    byId("q").focus();
  }
  asked = ""; // the same words again are a new search
  go({ ...texts, ...NEW });
}

function like(result) {
  go({ q: [], not: [], like: result.id, cutoff: null, ...NEW }, { sent: null });
  scrollTo({ top: 0 });
  byId("results").focus({ preventScroll: true });
}

function sendPicture(file) {
  const number = uploads.size + 1;
  uploads.set(number, file);
  go({ ...form.texts(), like: "", cutoff: null, ...NEW }, { sent: number });
}

async function showMore() {
  const before = results.shown().length;
  state = { ...state, k: Math.min(MOST, before + PAGE) };
  history.replaceState(history.state, "", write(state));
  await search(before);
  const first = results.shown()[before];
  if (first) results.focus(first.id);
}

function showDetail() {
  opener = state.picture;
  detail.open(state.picture, results.shown(), state.q);
}

function closed() {
  if (state.picture) {
    // Closed by a person, not by the back button: leave the entry that opened it.
    const inside = history.state?.inside;
    state = { ...state, picture: "" };
    if (inside) history.back();
    else history.replaceState(history.state, "", write(state));
  }
  if (!results.focus(opener)) byId(isAsked(state, upload) ? "results" : "q").focus();
}

function step(by) {
  const shown = results.shown();
  const next = shown[shown.findIndex((each) => each.id === state.picture) + by];
  if (next) go({ picture: next.id }, { replace: true });
}

function cut(cutoff, final) {
  state = { ...state, cutoff };
  results.cutAt(cutoff);
  if (!final) return; // browsers take few changes of the address a second, and ears few words
  history.replaceState(history.state, "", write(state));
  results.announceCount();
}

/** What the gallery holds now: its filters, its size, and what there is to say of its model. */
async function lookAround() {
  try {
    const summary = await api.summary();
    form.offer(summary);
    say("banner", summary.note);
    empty = summary.pictures === 0;
    if (!isAsked(state, upload)) notices.show(byId("notice"), empty ? "empty" : "home");
  } catch (refusal) {
    if (!isAsked(state, upload)) notices.error(byId("notice"), refusal, retry);
  }
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  byId("q").focus();
  byId("q").select();
});
form.listen({
  submit,
  picture: sendPicture,
  forget: () => go({ like: "", k: PAGE }, { sent: null }),
  filter: (changes) => go({ ...changes, k: PAGE }),
});
results.listen(cut);
detail.listen({ closed, like, step });
byId("more").addEventListener("click", showMore);
addEventListener("popstate", arrive);
document.addEventListener("visibilitychange", () => document.hidden || lookAround()); // it may have grown
arrive();
lookAround();
