// Elements of the page. Text goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

export function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  return filled(made, attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  return filled(made, attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// T with a small c, in text that is made here.
export const tc = () => node("span", {}, "T", node("sub", {}, "c"));

// Text with T_c, E_f and E_hull as they are printed.
export const words = (text) =>
  text.split(/(_(?:c|f|hull)\b)/).map((part) => (/^_(c|f|hull)$/.test(part) ? node("sub", {}, part.slice(1)) : part));

export const kelvin = (value, digits = 1) =>
  value === null || value === undefined ? "–" : `${(Number(value.toFixed(digits)) || 0).toFixed(digits)} K`;

// A number with a true minus sign.
export const minus = (value, digits) => value.toFixed(digits).replace("-", "−");

// With its sign; what is printed as nothing has none.
export const signed = (value, digits = 1) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value).toFixed(digits);
  return `${Number(size) === 0 ? "" : value < 0 ? "−" : "+"}${size}`;
};

export function tell(message, retry) {
  const notice = byId("notice");
  notice.replaceChildren(message);
  if (retry) notice.append(" ", node("button", { type: "button", onclick: () => (clear(), retry()) }, "Try again"));
  notice.hidden = false;
}

export const clear = () => (byId("notice").hidden = true);
