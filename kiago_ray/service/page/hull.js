// The energy above the hull of the formula that is shown, and the section from another composition to it.

import { json } from "./api.js";
import { minus, node } from "./dom.js";
import { formulaNode, reaction } from "./formula.js";
import { curve } from "./plots.js";

const ev = (value, std) => `${minus(value, 3)}${std === null ? "" : ` ± ${std.toFixed(3)}`} eV/atom`;

export function hullCard(found) {
  const above = found.e_hull_ev_per_atom;
  const lines = [];
  if (above === null) lines.push(node("p", {}, "Not known: there are no competing phases, or no energies of these elements."));
  else {
    const std = found.e_hull_std_ev_per_atom;
    const of = std === null ? "by the energy of the phase that it is" : "± one standard deviation, predicted";
    lines.push(node("p", {}, node("b", {}, ev(above, std)), node("small", {}, ` above the hull of competing phases; 0 is stable; ${of}`)));
    lines.push(node("p", {}, ...(found.decomposition ? ["It would fall apart so: ", reaction(found.decomposition)] : ["It falls apart into nothing known."])));
    lines.push(sectionForm(found));
  }
  return node("section", { class: "card broad" }, node("h4", {}, "Stability"), ...lines);
}

// Asks for a section only when it is wanted: it takes the models a second.
function sectionForm(found) {
  const other = found.neighbours.find((each) => each.distance > 0.01)?.formula ?? found.elements[0].symbol;
  const input = node("input", { id: "section-from", value: other, spellcheck: "false", autocapitalize: "none", maxlength: 400 });
  const told = node("p", { class: "status", role: "status" });
  const drawn = node("div", {});
  const draw = async (event) => {
    event.preventDefault();
    told.classList.remove("wrong");
    told.textContent = "Drawing …";
    drawn.replaceChildren();
    try {
      const body = { first: input.value.trim(), last: found.formula };
      const section = await json("v1/section", { method: "POST", body });
      told.textContent = "";
      drawn.replaceChildren(...shown(section, body));
    } catch (error) {
      told.textContent = error.message;
      told.classList.add("wrong");
    }
  };
  return node(
    "form",
    { onsubmit: draw, autocomplete: "off" },
    node("label", { for: "section-from" }, "Section from another composition"),
    node("div", { class: "line" }, input, node("button", {}, "Draw the section")),
    told,
    drawn,
  );
}

function shown({ series, points, stretches }, { first, last }) {
  const known = points.filter((point) => point.phase).map((point) => ({ x: point.x, y: point.e_hull_ev_per_atom, name: point.phase }));
  const line = points
    .filter((point) => point.e_hull_std_ev_per_atom !== null)
    .map((point) => ({ x: point.x, y: point.e_hull_ev_per_atom, std: point.e_hull_std_ev_per_atom }));
  const caption = `From ${first} to ${last}: predicted, with a band of one standard deviation. Points: known phases, by their source's energies.`;
  const texts = { id: "section", x: `x in ${series}`, y: "Energy above the hull (eV/atom)", caption };
  const figure = line.length ? [curve(line, known, texts).figure] : [];
  const rows = stretches.map((each) =>
    node("tr", {}, node("td", {}, `${each.first_x.toFixed(2)} to ${each.last_x.toFixed(2)}`), node("td", {}, reaction(each.phases.join(" + ")))),
  );
  const heads = ["x", "falls apart into"].map((text) => node("th", { scope: "col" }, text));
  const table = node("table", {}, node("thead", {}, node("tr", {}, ...heads)), node("tbody", {}, ...rows));
  return [...figure, node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "What falls apart into what" }, table)];
}
