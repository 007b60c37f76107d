// A doping series: what the models say at each x, what has been measured on it, and one x that a slider moves.

import { json } from "./api.js";
import { byId, kelvin, minus, node, words } from "./dom.js";
import { formulaNode, parse, seriesText } from "./formula.js";
import { curve } from "./plots.js";
import { reference } from "./reference.js";

let proposed = "";
let running = null;
let choose = null;

const text = (id) => byId(id).value.trim();

export function startScan(chosen) {
  choose = chosen;
  byId("x-formula").addEventListener("input", sites);
  byId("scan-form").addEventListener("submit", (event) => {
    event.preventDefault();
    scan();
  });
}

// The formula is what was predicted last, unless somebody wrote another.
export function proposeScan(formula) {
  if (text("x-formula") !== proposed) return;
  byId("x-formula").value = proposed = formula;
  sites();
}

function sites() {
  const symbols = [...(parse(text("x-formula")).amounts?.keys() ?? [])];
  const chosen = byId("x-site").value;
  byId("x-site").replaceChildren(...symbols.map((value) => node("option", { value, selected: value === chosen }, value)));
}

function say(told, wrong = false) {
  byId("scan-status").textContent = told;
  byId("scan-status").classList.toggle("wrong", wrong);
}

async function scan() {
  running?.abort();
  const mine = (running = new AbortController());
  byId("scan").replaceChildren();
  say("Asking the models …");
  const change = { site: text("x-site"), dopants: text("x-with"), x: text("x-range") };
  try {
    const found = await json("v1/scan", {
      method: "POST",
      body: { formula: text("x-formula"), changes: [change] },
      signal: mine.signal,
      busy: (seconds) => say(`The service is busy; asking again in ${seconds} s.`),
    });
    say("");
    choices(found.series);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
}

// One series at a time.
function choices(series) {
  const drawn = node("div", {});
  const options = series.map((each, at) => {
    const show = () => drawn.replaceChildren(...shown(each));
    const radio = node("input", { type: "radio", name: "series", checked: at === 0, onchange: show });
    return node("label", {}, radio, ` ${seriesText(each.series)}`);
  });
  const legend = node("legend", {}, "Series");
  byId("scan").replaceChildren(...(series.length > 1 ? [node("fieldset", { class: "modes" }, legend, ...options)] : []), drawn);
  if (series.length) drawn.replaceChildren(...shown(series[0]));
}

function shown({ series, points, warnings }) {
  const told = points.filter((point) => point.on_grid);
  const line = told.map((point) => ({ x: point.x, y: point.tc_k, std: point.tc_std_k, other: point.tc_oracle_k }));
  const known = points.filter((point) => point.known_tc_k !== null);
  const marks = known.map((point) => ({ x: point.x, y: point.known_tc_k, name: nameOf(point), open: point.known_pressure_gpa > 0 }));
  const { figure, at, drag } = curve(line, marks, {
    id: "scan-curve",
    x: `x in ${seriesText(series)}`,
    y: "Tc (K)",
    least: 0,
    caption: "T_c by the search's model with a band of one standard deviation; dashed: the second opinion. Points: measured; rings: under pressure.",
  });
  const sound = told.filter((point) => !point.doubts.length);
  const best = (sound.length ? sound : told).reduce((one, other) => ((other.tc_k ?? -1) > (one.tc_k ?? -1) ? other : one));
  const slider = node("input", { id: "scan-x", type: "range", min: 0, max: told.length - 1, step: 1, value: told.indexOf(best) });
  const values = node("div", { class: "card" });
  const move = () => {
    const point = told[Number(slider.value)];
    slider.setAttribute("aria-valuetext", `x = ${point.x}: ${point.formula}, ${point.tc_k === null ? point.error : kelvin(point.tc_k)}`);
    at(point.x);
    values.replaceChildren(...valuesOf(point));
  };
  slider.addEventListener("input", move);
  drag((x) => {
    const distances = told.map((point) => Math.abs(point.x - x));
    slider.value = distances.indexOf(Math.min(...distances));
    move();
  });
  move();
  const left = node("div", {}, figure, node("label", { for: "scan-x" }, "Drag x"), slider);
  const first = warnings.map((line) => node("p", { class: "flag" }, ...words(line)));
  return [...first, node("div", { class: "cards scan" }, left, values), ...(known.length ? [measured(known)] : [])];
}

const nameOf = (point) => point.formula + (point.known_pressure_gpa ? ` at ${point.known_pressure_gpa} GPa` : "");

function valuesOf(point) {
  const button = node("button", { type: "button", class: "link", onclick: () => choose(point.formula) }, formulaNode(point.formula));
  const heading = node("h3", {}, `x = ${point.x}: `, button);
  if (point.error !== null) return [heading, node("p", { class: "wrong" }, point.error)];
  const line = (name, value) => [node("dt", {}, ...words(name)), node("dd", {}, value)];
  const number = (value, std, unit, digits) =>
    value === null ? "–" : `${minus(value, digits)}${std === null ? "" : ` ± ${std.toFixed(digits)}`} ${unit}`;
  return [
    heading,
    point.known_tc_k === null ? "" : node("p", {}, node("b", {}, `Measured: ${kelvin(point.known_tc_k)}`), pressure(point)),
    node(
      "dl",
      { class: "facts" },
      ...line("T_c", number(point.tc_k, point.tc_std_k, "K", 1)),
      ...line("Second opinion", number(point.tc_oracle_k, point.tc_oracle_std_k, "K", 1)),
      ...line("Above the hull", number(point.e_hull_ev_per_atom, point.e_hull_std_ev_per_atom, "eV/atom", 3)),
      ...line("Exists", point.existence === null ? "–" : `probability ${point.existence.toFixed(2)}`),
      ...(point.mean_valences ? line("Mean valence", point.mean_valences) : []),
      ...(point.holes_per_cu === null ? [] : line("Holes per Cu", minus(point.holes_per_cu, 3))),
    ),
    ...point.doubts.map((doubt) => node("p", { class: "flag" }, ...words(`${doubt[0].toUpperCase()}${doubt.slice(1)}.`))),
  ];
}

const pressure = (point) => (point.known_pressure_gpa ? ` at ${point.known_pressure_gpa} GPa` : "");

function measured(known) {
  const rows = known.map((point) => {
    const button = node("button", { type: "button", class: "link", onclick: () => choose(point.formula) }, formulaNode(point.formula));
    const predicted = point.tc_k === null ? "–" : `${kelvin(point.tc_k)}`;
    const cells = [point.x, button, `${kelvin(point.known_tc_k)}${pressure(point)}`, predicted, reference(point.known_reference, point.known_doi)];
    return node("tr", {}, ...cells.map((cell) => node("td", {}, cell)));
  });
  const heads = ["x", "Known composition", "Measured", "Predicted", "Reported in"].map((each) => node("th", { scope: "col" }, each));
  const table = node("table", {}, node("thead", {}, node("tr", {}, ...heads)), node("tbody", {}, ...rows));
  return node("div", { class: "scroll low", tabindex: "0", role: "region", "aria-label": "Known compositions of the series" }, table);
}
