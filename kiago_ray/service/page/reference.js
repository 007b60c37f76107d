// Where something was reported, with a link where the reference has a DOI.

import { node } from "./dom.js";

export function reference(text, doi) {
  if (!text) return "–";
  if (!doi) return text;
  return node("a", { href: `https://doi.org/${encodeURI(doi)}`, target: "_blank", rel: "noopener noreferrer" }, text);
}
