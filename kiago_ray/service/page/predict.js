// The prediction of one formula: numbers, prospects, charges, neighbours, reasons.

import { byId, kelvin, minus, node, tc, words } from "./dom.js";
import { formulaNode } from "./formula.js";
import { hullCard } from "./hull.js";
import { reference } from "./reference.js";

const plusMinus = (value, spread) =>
  value === null ? "–" : spread === null ? kelvin(value) : `${value.toFixed(1)} ± ${spread.toFixed(1)} K`;

export function showPrediction(found, choose) {
  byId("prediction").replaceChildren(
    verdict(found),
    node("div", { class: "cards" }, numbers(found), prospects(found), charges(found), neighbours(found, choose), hullCard(found)),
    reasons(found),
  );
}

function verdict(found) {
  // A measurement comes before the prediction, and one that contradicts it in red.
  const pressure = found.measured_pressure_gpa ? ` at ${found.measured_pressure_gpa} GPa` : "";
  const first = found.measured_tc_k === null ? "" : ` ${kelvin(found.measured_tc_k)} measured${pressure};`;
  const said = ` ${plusMinus(found.tc_k, found.tc_std_k)}${pressure ? " by the models, without pressure" : first ? " predicted" : ""}`;
  const heading = node("h3", {}, formulaNode(found.formula), ": ", tc(), first, said);
  const alarms = found.reasons
    .filter((each) => each.alarm)
    .map((each) => node("p", { class: "flag wrong" }, ...words(each.sentence.replaceAll(/-(?=\d)/g, "−"))));
  const flag = found.extrapolated
    ? node("p", { class: "flag" }, "Far from anything known: these temperatures mean nothing here.")
    : null;
  const measured = found.nearest_known === found.known ? reported(found, pressure) : [];
  const known = found.known
    ? node("p", { class: "hint" }, "Known: the same as ", formulaNode(found.known), ", which has been measured", ...measured, ".")
    : null;
  const made = found.made ? node("p", { class: "hint" }, `Made: ${found.made}.`) : null;
  return node("div", {}, heading, ...alarms, ...[flag, known, made].filter(Boolean));
}

function reported(found, pressure) {
  const tc = found.measured_tc_k === null ? "" : ` at ${kelvin(found.measured_tc_k)}${pressure}`;
  const doi = found.neighbours.find((each) => each.reference === found.nearest_reference)?.doi;
  return found.nearest_reference ? [`${tc} (first in `, reference(found.nearest_reference, doi), ")"] : [tc];
}

function card(title, ...rows) {
  return node("section", { class: "card" }, node("h4", {}, ...title), node("dl", { class: "facts" }, ...rows));
}

const fact = (name, value, remark) => [
  node("dt", {}, ...[name].flat()),
  node("dd", {}, ...[value].flat(), remark ? node("small", {}, ` ${remark}`) : ""),
];

function numbers(found) {
  const far = found.extrapolation === null ? "–" : found.extrapolation.toFixed(2);
  return card(
    ["Numbers"],
    ...fact([tc(), ", the search's model"], plusMinus(found.tc_k, found.tc_std_k)),
    ...fact([tc(), ", second opinion"], plusMinus(found.tc_oracle_k, found.tc_oracle_std_k), "boosted trees; ± among them"),
    ...fact([tc(), " to trust"], kelvin(found.trusted_tc_k), "the lower of both, less the spread"),
    ...fact("Formation energy", found.ef_ev_per_atom === null ? "–" : `${minus(found.ef_ev_per_atom, 3)} eV/atom`),
    ...fact("Extrapolation", far, "above 1 is far out"),
  );
}

// Whether it can be made, and whether that would be worth it.
function prospects(found) {
  const share = (value) => (value === null ? "–" : value < 0.001 ? value.toExponential(1).replace("-", "−") : value.toFixed(3));
  const gain = found.expected_improvement_k === null ? "–" : kelvin(found.expected_improvement_k);
  const best = found.best_nearby
    ? [formulaNode(found.best_nearby), `, ${kelvin(found.best_nearby_tc_k)}`]
    : "nothing known is near";
  return card(
    ["Prospects"],
    ...fact("Exists", share(found.existence), "the probability that such a composition can be made"),
    ...fact("Is reported too", share(found.plausibility), "in the next years"),
    ...(found.plausibility_reason ? fact("Because", found.plausibility_reason) : []),
    ...fact("Expected gain", gain, "over the best known nearby"),
    ...fact("The best nearby", best),
    ...fact("Screens", found.passed ? "passed" : "not passed", "those of a search by default"),
  );
}

function charges(found) {
  const charge = found.charge;
  const told = charge.alloy
    ? "nothing to judge"
    : charge.charge_kind === "metallic"
      ? "judged as a metal"
      : charge.balanced
        ? "likely states balance"
        : charge.oxidation_states
          ? "only unlikely states balance"
          : "don't balance";
  const states = charge.oxidation_states
    ?.split(" ")
    .map((text) => text.replace(/\*([\d.]+)$/, " ×$1").replace("-", "−"))
    .join(", ");
  return card(
    ["Charges"],
    ...fact("Oxidation states", told),
    ...(states && states !== "metallic" ? fact("The likeliest", states) : []),
    ...(charge.mean_valences ? fact("Mean valence", charge.mean_valences) : []),
    ...(charge.holes_per_cu === null ? [] : fact("Holes per Cu", charge.holes_per_cu.toFixed(3).replace("-", "−"))),
    ...(charge.remark ? fact("Remark", charge.remark) : []),
  );
}

function neighbours(found, choose) {
  const lines = found.neighbours.map((each) => {
    const pressure = each.pressure_gpa ? ` at ${each.pressure_gpa} GPa` : "";
    const measured = each.tc_k === null ? "unknown" : `${each.tc_k.toFixed(1)} K${pressure}`;
    const attributes = { type: "button", class: "link", onclick: () => choose(each.formula) };
    const link = node("button", attributes, formulaNode(each.formula));
    const cells = [link, measured, each.distance.toFixed(3), reference(each.reference, each.doi)];
    return node("tr", {}, ...cells.map((cell) => node("td", {}, cell)));
  });
  const heads = ["Formula", "Measured", "Distance", "Reported in"].map((text) => node("th", { scope: "col" }, text));
  return node(
    "section",
    { class: "card broad" },
    node("h4", {}, "Nearest known compositions"),
    node("div", { class: "scroll low", tabindex: "0", role: "region", "aria-label": "Nearest known compositions" }, node("table", {}, node("thead", {}, node("tr", {}, ...heads)), node("tbody", {}, ...lines))),
    node("p", { class: "hint" }, `Of: ${found.known_source}. Distance: 0 is the same, 2 has no element in common.`),
  );
}

function reasons(found) {
  const side = (name, title, sign) => {
    const lines = found.reasons.filter((each) => each.side === name);
    const mark = () => node("span", { "aria-hidden": "true", class: "sign" }, sign);
    const items = lines.map((each) => node("li", each.alarm ? { class: "wrong" } : {}, mark(), ...words(each.sentence.replaceAll(/-(?=\d)/g, "−"))));
    return node("section", { class: `reasons ${name}` }, node("h4", {}, title), node("ul", {}, ...items));
  };
  return node(
    "div",
    { class: "cards" },
    side("for", "Why to believe it", "+"),
    side("against", "Why not", "−"),
  );
}
