// What stands in place of results: nothing asked yet, nothing found, an empty gallery, an error.

import { enterToken } from "./api.js";
import { announce, byId, h } from "./dom.js";

const TITLES = {
  0: "No connection",
  400: "The search was not understood",
  401: "This gallery needs its token",
  404: "That picture is not in the gallery",
  410: "The file is gone",
  413: "That picture is too large",
  415: "That file is no picture",
  422: "The search was not understood",
  429: "The server is busy",
  503: "The server takes no searches now",
};

/** One of the page's notices: "home", "empty", "none". */
export function show(place, name) {
  place.replaceChildren(byId(`notice-${name}`).content.cloneNode(true));
}

/** No picture passes; `clearFilters` is null where no filter is set. */
export function nothingFound(place, clearFilters) {
  show(place, "none");
  const button = place.querySelector("button");
  button.hidden = !clearFilters;
  button.addEventListener("click", clearFilters);
  place.querySelector("p").textContent = clearFilters
    ? "No picture passes the filters you set."
    : "Try fewer words, or words for what can be seen.";
  announce("No results.");
}

/** The server refused; `retry` asks again. `level` is that of the heading. */
export function error(place, refusal, retry, level = "h2") {
  const title = h(level, {}, TITLES[refusal.status] ?? "Something went wrong");
  const panel = h("div", { class: "panel error", role: "alert" }, title);
  place.replaceChildren(panel);
  if (refusal.status === 401) {
    panel.append(h("p", {}, "Enter it once. This browser keeps it until it is closed."));
    panel.append(byId("notice-token").content.cloneNode(true));
    panel.querySelector("form").addEventListener("submit", (event) => enter(event, retry));
    return;
  }
  panel.append(h("p", {}, sentence(refusal.message)));
  if ([0, 410, 429].includes(refusal.status) || refusal.status >= 500) {
    panel.append(h("button", { type: "button", onclick: () => retry() }, "Try again"));
  }
}

/** What the server says, as a sentence. */
export function sentence(text) {
  const isField = /^\w+[:=]/.test(text); // "q: ..." names a field as the API spells it
  const clean = isField ? text : text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(clean) ? clean : `${clean}.`;
}

async function enter(event, retry) {
  event.preventDefault();
  const [input, help] = [byId("token"), byId("token-help")];
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
}
