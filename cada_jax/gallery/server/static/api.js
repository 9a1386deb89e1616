// Talks to the API. Every address is relative, so the page works below any root path.

/** The server refused, or was not reached (status 0). */
export class Refusal extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * The JSON of an answer.
 * @throws {Refusal} the server refused or was not reached.
 * @throws {DOMException} AbortError when the signal was used.
 */
async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server was not reached. Is it running, and are you online?");
  }
  let content = null;
  try {
    content = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (answer.ok && content !== null) return content;
  const wait = Number(answer.headers.get("Retry-After"));
  const message = typeof content?.error === "string" ? content.error : `status ${answer.status}`;
  throw new Refusal(answer.ok ? 500 : answer.status, message, Number.isFinite(wait) ? wait : 0);
}

/** Results of a query; with a file, the results resemble that picture. */
export function search(fields, file, signal) {
  if (!file) return ask(`api/search?${fields}`, { signal });
  const body = new FormData();
  for (const [name, value] of fields) body.append(name, value);
  body.append("image", file, "picture");
  return ask("api/search", { method: "POST", body, signal });
}

/** What the gallery holds. */
export const summary = () => ask("api/gallery");

/** What the index knows of a picture. */
export const record = (id, signal) => ask(picture(id), { signal });

/** What the decoder reads off a picture. */
export const attributes = (id, signal) => ask(`${picture(id)}/attributes`, { signal });

/** Where each word looks; layer and head are numbers from 0, or "" for their average. */
export function association(id, text, layer, head, signal) {
  const given = new URLSearchParams({ q: text });
  if (layer !== "") given.set("layer", layer);
  if (head !== "") given.set("head", head);
  return ask(`${picture(id)}/association?${given}`, { signal });
}

/** Address of the upright scene. */
export const sceneAddress = (id) => `${picture(id)}/image`;

/** Address of the small picture of a person. */
export const thumbnailAddress = (id) => `${picture(id)}/thumbnail`;

/** Whether the server takes a token; it answers with a cookie, and the token enters no history. */
export async function enterToken(token) {
  const given = new URLSearchParams({ token });
  try {
    return (await fetch(`./?${given}`, { credentials: "same-origin", cache: "no-store" })).ok;
  } catch {
    throw new Refusal(0, "The server was not reached. Is it running, and are you online?");
  }
}

const picture = (id) => `api/pictures/${encodeURIComponent(id)}`;
