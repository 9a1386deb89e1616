// What is asked lives in the page's address: a link holds the query, and back and forward work.

export const FIRST_K = 20;
export const MOST_K = 1000;
const LEAST_RERANK = 32;
const FILTERS = ["folder", "since", "until", "camera"];

/** The state that an address holds. Fields that are not understood get their default. */
export function read(search) {
  const given = new URLSearchParams(search);
  const texts = (name) => given.getAll(name).map((text) => text.trim()).filter(Boolean);
  const number = (name) => (given.get(name)?.trim() ? Number(given.get(name)) : NaN);
  const k = number("k");
  const cutoff = number("min_score");
  const state = {
    q: texts("q"),
    not: texts("not"),
    like: given.get("like") ?? "",
    k: Number.isInteger(k) && k >= 1 ? Math.min(k, MOST_K) : FIRST_K,
    cutoff: Number.isFinite(cutoff) ? cutoff : null,
    picture: given.get("picture") ?? "",
  };
  for (const name of FILTERS) state[name] = given.get(name) ?? "";
  return state;
}

/** The address of a state, relative to the page; fields with their default are left out. */
export function write(state) {
  const given = fields(state);
  if (state.k !== FIRST_K) given.set("k", state.k);
  if (state.cutoff !== null) given.set("min_score", state.cutoff);
  if (state.picture) given.set("picture", state.picture);
  const text = given.toString();
  return text ? `?${text}` : location.pathname;
}

/**
 * The fields of a request. Every shown picture is re-ranked, so that all scores are of one kind.
 * The cut-off stays here: what is below it is shown, dimmed.
 */
export function request(state) {
  const given = fields(state);
  given.set("k", state.k);
  given.set("rerank", Math.max(LEAST_RERANK, state.k));
  return given;
}

/** Whether anything is asked: words, a picture of the gallery, or an uploaded one. */
export function isAsked(state, upload) {
  return Boolean(state.q.length || state.like || upload);
}

/** How many filters are set. */
export function countFilters(state) {
  return FILTERS.filter((name) => state[name]).length;
}

/** A state without filters. */
export function withoutFilters() {
  return Object.fromEntries(FILTERS.map((name) => [name, ""]));
}

function fields(state) {
  const given = new URLSearchParams();
  for (const text of state.q) given.append("q", text);
  for (const text of state.not) given.append("not", text);
  if (state.like) given.set("like", state.like);
  for (const name of FILTERS) if (state[name]) given.set(name, state[name]);
  return given;
}
