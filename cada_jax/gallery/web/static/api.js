// Talks to the API. Every address is relative, so the page works below any root path.

/** The server refused, or was not reached (status 0). */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function reach(address, options) {
  try {
    return await fetch(address, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server was not reached. Is it running, and are you online?");
  }
}

/** The JSON of an answer; throws a Refusal, or an AbortError when the signal was used. */
async function ask(address, options) {
  const answer = await reach(address, options);
  const text = await answer.text();
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    // A proxy, or a layer before the API, answers in words.
  }
  if (answer.ok && content !== null) return content;
  throw new Refusal(answer.ok ? 500 : answer.status, content?.error ?? (text.slice(0, 200) || `status ${answer.status}`));
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

/** What the index knows of a picture; `part` is "", or what the model tells of it. */
export const about = (id, part, signal) => ask(picture(id) + part, { signal });

/** Addresses of the upright scene, and of the small picture of a person. */
export const sceneAddress = (id) => `${picture(id)}/image`;
export const thumbnailAddress = (id) => `${picture(id)}/thumbnail`;

/** Whether the server takes a token; it answers with a cookie, and the token enters no history. */
export const enterToken = async (token) => (await reach(`./?${new URLSearchParams({ token })}`, { cache: "no-store" })).ok;

const picture = (id) => `api/pictures/${encodeURIComponent(id)}`;
