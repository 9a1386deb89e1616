// Makes elements. Text is always a text node, so a file name cannot become markup.

/** The element with an id; a page without it is a fault of ours. */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no element #${id}`);
  return node;
}

/** An element: `on...` are listeners, other properties attributes; null and false are left out. */
export function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** One of the page's icons; the text beside it, or a label, names it. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** A bar of a share in [0, 1]; the number beside it says the same in text. */
export function bar(share) {
  const fill = h("span", { class: "bar-fill" });
  fill.style.inlineSize = `${Math.round(Math.min(1, Math.max(0, share)) * 100)}%`;
  return h("span", { class: "meter", "aria-hidden": "true" }, fill);
}

/** Tells a screen reader, without moving the focus. */
export function announce(text) {
  byId("status").textContent = text;
}

/** "1 result", "1,000 results". */
export function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** A number as it is shown, with a minus sign that is read aloud. */
export function numberText(number, digits = 2) {
  return number.toFixed(digits).replace("-", "\u2212");
}

/** A name on one line: what cannot be seen (newlines, marks that turn the text round) as U+FFFD. */
export function visible(name) {
  return name.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
}

/** Arrow keys, Home and End move the focus among nodes, which stand in rows. */
export function moveByKeys(event, nodes) {
  const here = nodes.indexOf(document.activeElement);
  if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const top = (node) => node.getBoundingClientRect().top;
  const columns = nodes.filter((node) => top(node) === top(nodes[0])).length;
  const steps = { ArrowRight: here + 1, ArrowLeft: here - 1, ArrowDown: here + columns, ArrowUp: here - columns };
  const next = nodes[{ ...steps, Home: 0, End: nodes.length - 1 }[event.key] ?? -1];
  if (!next) return;
  event.preventDefault();
  event.stopPropagation();
  next.focus();
}
