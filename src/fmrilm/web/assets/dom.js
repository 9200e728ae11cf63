// Elements without markup in strings: nothing that a file or a model says can become code.
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const h = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

export const percent = (share) => `${(100 * share).toFixed(1)}%`;

export const signed = (value, digits = 3) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

export function announce(text) {
  byId("said").textContent = text;
}

export function complain(text) {
  const place = byId("problem");
  place.textContent = text;
  place.hidden = !text;
}

/** A bar of a list: name, length (0 to 1), amount in words. */
export function bar(name, length, amount, kind = "", row = "") {
  const inner = h("span", { class: `fill ${kind}` });
  inner.style.width = `${100 * Math.max(0, Math.min(1, length))}%`;
  return h("li", { class: row },
    h("span", { class: "name" }, name),
    h("span", { class: "track", "aria-hidden": "true" }, inner),
    h("span", { class: "amount" }, amount));
}

/** A line with a progress bar and a button that cancels; update with `.tell(share, text)`. */
export function progressLine(label, onCancel) {
  const text = h("span", {}, label);
  const meter = h("progress", { max: 1, value: 0, "aria-label": label });
  const element = h("div", { class: "work" },
    h("div", { class: "line" }, text, h("button", { type: "button", onclick: onCancel }, "Cancel")), meter);
  element.tell = (share, words) => {
    if (words) text.textContent = words;
    if (share === null) meter.removeAttribute("value");
    else meter.value = share;
  };
  return element;
}
