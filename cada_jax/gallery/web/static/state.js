// What is asked lives in the page's address: a link holds the query, and back and forward work.

export const PAGE = 20; // results that are added at once
export const MOST = 1000; // results on the page
// The decoder scores so many pictures, the same on every page of results, or their order would change.
const RERANK = 40;

/** Names of the filters: those of the fields that the page has for them. */
export const filterNames = [...document.querySelectorAll("#filter-form [name]")].map((field) => field.name);

/** The state that an address holds. Fields that are not understood get their default. */
export function read(search) {
  const given = new URLSearchParams(search);
  const texts = (name) => given.getAll(name).map((text) => text.trim()).filter(Boolean);
  const number = (name) => (given.get(name)?.trim() ? Number(given.get(name)) : NaN);
  const k = number("k");
  const cutoff = number("min_score");
  return {
    q: texts("q"),
    not: texts("not"),
    like: given.get("like") ?? "",
    k: Number.isInteger(k) && k >= 1 ? Math.min(k, MOST) : PAGE,
    cutoff: Number.isFinite(cutoff) ? cutoff : null,
    picture: given.get("picture") ?? "",
    ...Object.fromEntries(filterNames.map((name) => [name, given.get(name) ?? ""])),
  };
}

/** The address of a state, relative to the page; fields with their default are left out. */
export function write(state) {
  const given = fields(state);
  if (state.k !== PAGE) given.set("k", state.k);
  if (state.cutoff !== null) given.set("min_score", state.cutoff);
  if (state.picture) given.set("picture", state.picture);
  const text = given.toString();
  return text ? `?${text}` : location.pathname;
}

/**
 * The fields of a request for the results from a place on.
 * The cut-off stays here: what is below it is shown, dimmed.
 */
export function request(state, offset = 0) {
  const given = fields(state);
  given.set("k", state.k - offset);
  if (offset) given.set("offset", offset);
  given.set("rerank", RERANK);
  return given;
}

/** What a state asks for, apart from how many results of it are shown. */
export const question = (state) => String(fields(state));

/** Whether anything is asked: words, a picture of the gallery, or an uploaded one. */
export const isAsked = (state, upload) => Boolean(state.q.length || state.like || upload);

/** How many filters are set. */
export const countFilters = (state) => filterNames.filter((name) => state[name]).length;

/** A state without filters. */
export const withoutFilters = () => Object.fromEntries(filterNames.map((name) => [name, ""]));

function fields(state) {
  const given = new URLSearchParams();
  for (const text of state.q) given.append("q", text);
  for (const text of state.not) given.append("not", text);
  if (state.like) given.set("like", state.like);
  for (const name of filterNames) if (state[name]) given.set(name, state[name]);
  return given;
}
