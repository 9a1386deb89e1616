// Puts the parts together: the address holds the state, every change goes through it.

import * as api from "./api.js";
import * as detail from "./detail.js";
import { announce, byId } from "./dom.js";
import * as filters from "./filters.js";
import * as notices from "./notices.js";
import * as form from "./query_form.js";
import * as results from "./results.js";
import { FIRST_K, MOST_K, countFilters, isAsked, read, request, withoutFilters, write } from "./state.js";

const uploads = new Map(); // pictures sent from this page, by the number in the history's entry
let state = read(location.search);
let upload = null; // number of the picture searched by
let asked = ""; // the request whose answer is shown or on its way
let opener = ""; // id of the picture whose dialog was opened last
let controller = new AbortController();
let later = 0; // the timer that will write a cut-off into the address, 0 for none
let empty = false; // whether the gallery holds no picture

/** Changes the state and with it the address; `replace` makes no new entry of the history. */
function go(changes, { replace = false, sent = upload } = {}) {
  settle(); // or the entry that is left behind has no cut-off to come back to
  state = { ...state, ...changes };
  replace ||= sent === upload && write(state) === (location.search || location.pathname);
  const entry = { upload: sent, inside: !replace || Boolean(history.state?.inside) };
  history[replace ? "replaceState" : "pushState"](entry, "", write(state));
  upload = sent;
  apply();
}

function arrive() {
  forgetCut();
  state = read(location.search);
  upload = uploads.has(history.state?.upload) ? history.state.upload : null;
  apply();
}

function apply() {
  form.fill(state, uploads.get(upload));
  filters.fill(state);
  document.title = state.q.length ? `${state.q[0]} – people` : "Search pictures of people";
  document.body.classList.toggle("asked", isAsked(state, upload));
  const now = `${upload} ${request(state)}`;
  if (now !== asked) search(now);
  else if (isAsked(state, upload)) results.cutAt(state.cutoff);
  if (state.picture) showDetail();
  else detail.close();
}

async function search(now, more = false) {
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  asked = now;
  const place = byId(more ? "more-notice" : "notice");
  notices.clear(place);
  if (!isAsked(state, upload)) {
    results.clear();
    if (empty) notices.emptyGallery(place);
    else notices.home(place);
    return;
  }
  if (more) byId("more").disabled = true;
  else results.loading();
  try {
    const answer = await api.search(request(state), uploads.get(upload), signal);
    if (!signal.aborted) answered(answer);
  } catch (refusal) {
    if (refusal.name === "AbortError") return;
    asked = "";
    if (!more) results.clear();
    byId("more").disabled = false;
    notices.error(place, refusal, more ? showMore : retry);
  }
}

function answered(answer) {
  notices.answered();
  results.show(answer, { open: (result) => go({ picture: result.id }), like });
  const { above, below } = results.cutAt(state.cutoff);
  if (!answer.results.length) {
    results.clear();
    const place = byId("notice");
    if (answer.gallery_size === 0) notices.emptyGallery(place);
    else notices.nothingFound(place, countFilters(state), () => go(withoutFilters()));
    return;
  }
  results.announceCount({ above, below });
  const button = byId("more");
  button.hidden = answer.results.length < state.k || state.k >= MOST_K;
  button.disabled = false;
  button.textContent = `Show ${FIRST_K} more`;
  detail.relate(results.shown());
}

function retry() {
  offerFilters();
  search(`${upload} ${request(state)}`);
}

function submit() {
  const texts = form.texts();
  if (!texts.q.length && !state.like && upload === null) {
    announce("Describe a person, or choose a picture.");
    byId("q").focus();
    go({ ...texts, k: FIRST_K, picture: "" });
    return;
  }
  asked = ""; // the same words again are a new search
  go({ ...texts, k: FIRST_K, picture: "" });
}

function like(result) {
  go({ q: [], not: [], like: result.id, k: FIRST_K, cutoff: null, picture: "" }, { sent: null });
  scrollTo({ top: 0 });
  byId("results").focus({ preventScroll: true });
}

function sendPicture(file) {
  const number = uploads.size + 1;
  uploads.set(number, file);
  go({ ...form.texts(), like: "", k: FIRST_K, cutoff: null, picture: "" }, { sent: number });
}

async function showMore() {
  const before = results.shown().length;
  const asMany = Math.min(MOST_K, before + FIRST_K);
  state = { ...state, k: asMany };
  history.replaceState(history.state, "", write(state));
  await search(`${upload} ${request(state)}`, true);
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

function cut(cutoff) {
  state = { ...state, cutoff };
  const count = results.cutAt(cutoff);
  clearTimeout(later);
  // Browsers take few changes of the address a second, and a screen reader few words.
  later = setTimeout(() => {
    settle();
    results.announceCount(count);
  }, 300);
}

/** Writes a cut-off that waits to be written into the address now. */
function settle() {
  if (later) history.replaceState(history.state, "", write(state));
  forgetCut();
}

function forgetCut() {
  clearTimeout(later);
  later = 0;
}

async function copyLink() {
  settle();
  const label = byId("copy").querySelector("span");
  try {
    await navigator.clipboard.writeText(location.href);
    label.textContent = "Copied";
  } catch {
    label.textContent = "Copy the address bar";
  }
  announce(label.textContent);
  setTimeout(() => (label.textContent = "Copy link"), 2000);
}

async function offerFilters() {
  try {
    const summary = await api.summary();
    filters.offer(summary);
    empty = summary.pictures === 0;
    if (empty && !isAsked(state, upload)) notices.emptyGallery(byId("notice"));
  } catch (refusal) {
    if (!isAsked(state, upload)) notices.error(byId("notice"), refusal, retry);
  }
}

function listenToKeys(event) {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    byId("q").focus();
    byId("q").select();
  }
}

function listenToTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement.dataset;
  const isDark = () => (root.theme ? root.theme === "dark" : dark.matches);
  const mark = () => byId("theme").setAttribute("aria-pressed", String(isDark()));
  byId("theme").addEventListener("click", () => {
    root.theme = isDark() ? "light" : "dark";
    mark();
    try {
      localStorage.setItem("cada-theme", root.theme);
    } catch {
      // Storage is switched off: the choice holds until the page is left.
    }
  });
  dark.addEventListener("change", mark);
  mark();
}

form.listen({ submit, picture: sendPicture, forget: () => go({ like: "", k: FIRST_K }, { sent: null }) });
filters.listen((changes) => go({ ...changes, k: FIRST_K }));
results.onCutoff(cut);
detail.listen({ closed, like, step });
listenToTheme();
byId("more").addEventListener("click", showMore);
byId("copy").addEventListener("click", copyLink);
byId("results").addEventListener("keydown", results.moveByKeys);
document.addEventListener("keydown", listenToKeys);
addEventListener("popstate", arrive);
arrive();
offerFilters();
