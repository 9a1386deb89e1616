// What stands in place of results: nothing asked yet, nothing found, an empty gallery, an error.

import { enterToken } from "./api.js";
import { announce, h } from "./dom.js";

const EXAMPLES = [
  "a woman in a yellow coat with a black backpack",
  "a man in a grey hooded jacket and blue jeans",
  "someone in a red top carrying an umbrella",
];

const TITLES = {
  0: "No connection",
  400: "The search was not understood",
  401: "This gallery needs its token",
  404: "That picture is not in the gallery",
  410: "The file is gone",
  413: "That picture is too large",
  415: "That file is no picture",
  422: "There is no word in that description",
  429: "The server is busy",
  503: "The server takes no searches now",
};
const TOKEN_TEXT = "Enter it once. This browser keeps it until it is closed.";
const MOST_RETRIES = 3;
let timer = 0;
let retries = 0;

/** Takes the notice away and stops its countdown. */
export function clear(place) {
  clearInterval(timer);
  place.replaceChildren();
}

/** A search was answered: the count of retries starts anew. */
export function answered() {
  retries = 0;
}

/** Nothing is asked yet. */
export function home(place) {
  clear(place);
  const links = EXAMPLES.map((text) =>
    h("li", {}, h("a", { href: `?${new URLSearchParams({ q: text })}`, class: "example" }, text)),
  );
  place.append(
    h("div", { class: "panel plain" }, h("h2", {}, "Try one of these"), h("ul", { class: "examples" }, links)),
  );
}

/** The gallery holds no picture. */
export function emptyGallery(place) {
  clear(place);
  place.append(
    h(
      "div",
      { class: "panel" },
      h("h2", {}, "No pictures are indexed yet"),
      h("p", {}, "Stop the server, index a folder, and start it again:"),
      h("pre", { tabindex: "0", "aria-label": "Command" }, h("code", {}, "cada index --db=DB --images=FOLDER")),
    ),
  );
}

/** No picture passes. */
export function nothingFound(place, filters, clearFilters) {
  clear(place);
  const advice = filters
    ? [
        h("p", {}, "No picture passes the filters you set."),
        h("button", { type: "button", onclick: clearFilters }, "Clear filters"),
      ]
    : [h("p", {}, "Try fewer words, or words for what can be seen.")];
  place.append(h("div", { class: "panel" }, h("h2", {}, "No results"), ...advice));
  announce("No results.");
}

/** The server refused; `retry` asks again. `level` is that of the heading. */
export function error(place, refusal, retry, level = "h2") {
  clear(place);
  const title = TITLES[refusal.status] ?? "Something went wrong";
  const panel = h("div", { class: "panel error", role: "alert", "data-status": refusal.status });
  const token = refusal.status === 401;
  panel.append(h(level, {}, title), h("p", {}, token ? TOKEN_TEXT : sentence(refusal.message)));
  if (token) panel.append(tokenForm(retry));
  else if (retry && [0, 408, 410, 429].includes(refusal.status)) panel.append(...again(refusal, retry));
  else if (retry && refusal.status >= 500) panel.append(...again(refusal, retry));
  place.append(panel);
}

function sentence(text) {
  const trimmed = text.trim();
  const isField = /^\w+:/.test(trimmed); // "q: ..." names a field as the API spells it
  const clean = isField ? trimmed : trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(clean) ? clean : `${clean}.`;
}

function again(refusal, retry) {
  const now = h("button", { type: "button", onclick: () => retry() }, "Try again");
  const waits = [429, 503].includes(refusal.status) && refusal.retryAfter > 0;
  if (!waits || retries >= MOST_RETRIES) return [now];
  retries += 1;
  let left = Math.ceil(refusal.retryAfter);
  const text = h("p", { class: "countdown", "aria-live": "off" });
  const tick = () => {
    text.textContent = `Trying again in ${left} s.`;
    if (left <= 0) {
      clearInterval(timer);
      retry();
    }
    left -= 1;
  };
  tick();
  timer = setInterval(tick, 1000);
  const stop = h("button", {
    type: "button",
    class: "quiet",
    onclick: () => {
      clearInterval(timer);
      text.textContent = "Waiting for you.";
      stop.remove();
      now.focus();
    },
  }, "Stop trying");
  return [text, h("div", { class: "line" }, now, stop)];
}

function tokenForm(retry) {
  const input = h("input", {
    type: "password",
    id: "token",
    autocomplete: "current-password",
    required: true,
    "aria-describedby": "token-help",
  });
  const help = h("p", { class: "hint", id: "token-help" }, "The person who runs the server can give it to you.");
  const submit = async (event) => {
    event.preventDefault();
    try {
      if (await enterToken(input.value)) {
        retry();
        return;
      }
      help.textContent = "The server does not take this token. Check it and try again.";
    } catch (refusal) {
      help.textContent = refusal.message;
    }
    input.setAttribute("aria-invalid", "true");
    announce(help.textContent);
    input.select();
  };
  return h(
    "form",
    { class: "token", onsubmit: submit },
    h("label", { for: "token" }, "Token"),
    h("div", { class: "line" }, input, h("button", { type: "submit", class: "primary" }, "Enter")),
    help,
  );
}
