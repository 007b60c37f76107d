// The candidates of a finished search or run: sorted, filtered, in pages, drawn, downloaded.

import { json, request } from "./api.js";
import { byId, minus, node, signed, tell, words } from "./dom.js";
import { INDEX } from "./elements.js";
import { formulaNode, parse } from "./formula.js";
import { drawPlots } from "./plots.js";
import { reference } from "./reference.js";

const PAGE = 100;
const MOST = 1000; // rows that are loaded

const missing = (value) => value === null || value === undefined;
const number = (value, digits) => (missing(value) ? "–" : minus(value, digits));
const yes = (value) => (missing(value) ? "–" : value ? "yes" : "no");

// Name of the column, title, what a row has in it, whether the least comes first when it is sorted by.
const COLUMNS = [
  ["rank", "Rank", (row) => row.rank ?? "–", true],
  ["formula", "Formula", null, true],
  ["plausibility", "Plausibility", (row) => (missing(row.plausibility) ? "–" : row.plausibility.toPrecision(2))],
  ["expected_improvement_k", "Expected gain (K)", (row) => number(row.expected_improvement_k, 1)],
  ["best_nearby_tc_k", "Best known nearby", bestNearby],
  ["trusted_tc_k", "Trusted T_c (K)", (row) => number(row.trusted_tc_k, 1)],
  ["measured_tc_k", "Measured (K)", measured],
  ["tc_k", "T_c ± (K)", (row) => `${number(row.tc_k, 1)} ± ${number(row.tc_std_k, 1)}`],
  ["tc_oracle_k", "Second opinion (K)", (row) => number(row.tc_oracle_k, 1)],
  ["delta_tc_k", "ΔT_c (K)", (row) => signed(row.delta_tc_k)],
  ["ef_ev_per_atom", "E_f (eV/atom)", (row) => number(row.ef_ev_per_atom, 3), true],
  ["e_hull_ev_per_atom", "ΔE_hull (eV/atom)", hull, true],
  ["extrapolation", "Extrapolation", (row) => number(row.extrapolation, 2) + (row.extrapolated ? " far" : ""), true],
  ["balanced", "Charges balance", charges],
  ["nearest_distance", "Nearest known", nearest, true],
  ["known", "Known, tried or made", (row) => [row.known, row.tried, row.made].filter(Boolean).join("; ") || "–"],
  ["passed", "Passed", (row) => yes(row.passed)],
];

let state = null;

function charges(row) {
  return yes(row.balanced) + (row.oxidation_states ? `: ${row.oxidation_states.replaceAll("-", "−")}` : "");
}

function hull(row) {
  const std = missing(row.e_hull_std_ev_per_atom) ? "" : ` ± ${number(row.e_hull_std_ev_per_atom, 3)}`;
  return number(row.e_hull_ev_per_atom, 3) + std;
}

// What contradicts the prediction is red.
function measured(row) {
  if (missing(row.measured_tc_k)) return "–";
  const pressure = row.measured_pressure_gpa ? ` at ${row.measured_pressure_gpa} GPa` : "";
  const told = row.contradicted ? ", which contradicts the prediction" : "";
  return node("span", { class: told ? "wrong" : null }, `${number(row.measured_tc_k, 1)}${pressure}${told}`);
}

function bestNearby(row) {
  if (missing(row.best_nearby)) return "–";
  return node("span", {}, formulaNode(row.best_nearby), `, ${number(row.best_nearby_tc_k, 1)} K`);
}

function nearest(row) {
  if (missing(row.nearest_known)) return "–";
  const pressure = row.nearest_pressure_gpa ? ` under ${row.nearest_pressure_gpa} GPa` : "";
  const measured = missing(row.nearest_tc_k) ? "" : `, ${number(row.nearest_tc_k, 1)} K${pressure}`;
  const reported = row.nearest_reference ? ["; ", reference(row.nearest_reference, row.nearest_doi)] : [];
  return node("span", {}, formulaNode(row.nearest_known), `${measured}, at ${number(row.nearest_distance, 2)}`, ...reported);
}

export const hideCandidates = () => (byId("candidates").hidden = true);

// source: {path, name, files: what is downloaded → where it is, plots: names, plot: where the plot of a name is}.
export async function showCandidates(source, choose) {
  const page = await json(`${source.path}/candidates?limit=${MOST}`);
  state = { source, choose, rows: page.candidates, total: page.total, sort: "rank", up: true, at: 0 };
  byId("candidates").hidden = false;
  downloads().forEach((each) => (each.hidden = !(each.dataset.download in source.files)));
  draw();
  drawPlots(byId("plots"), state.rows, source);
}

const downloads = () => document.querySelectorAll("[data-download]");

// What no row has is no column.
const columns = () => COLUMNS.filter(([name]) => name !== "measured_tc_k" || state.rows.some((row) => !missing(row[name])));

function kept() {
  const asked = byId("f-text").value.split(/[\s,;]+/).filter(Boolean);
  const least = byId("f-tc").value === "" ? null : Number(byId("f-tc").value);
  const passed = byId("f-passed").checked;
  const fresh = byId("f-new").checked;
  return state.rows.filter((row) => {
    if (passed && !row.passed) return false;
    if (fresh && (row.known || row.tried)) return false;
    if (least !== null && !(row.trusted_tc_k >= least)) return false;
    return holds(row.formula ?? "", asked);
  });
}

// What is an element is looked for as one: S does not find Sr.
function holds(formula, asked) {
  const amounts = parse(formula).amounts;
  return asked.every((each) => (each in INDEX ? amounts?.has(each) : formula.toLowerCase().includes(each.toLowerCase())));
}

function sorted(rows) {
  const { sort, up } = state;
  return [...rows].sort((a, b) => {
    const [x, y] = [a[sort], b[sort]];
    if (x === y) return (a.rank ?? Infinity) - (b.rank ?? Infinity) || 0;
    if (missing(x)) return 1;
    if (missing(y)) return -1;
    return (x < y ? -1 : 1) * (up ? 1 : -1);
  });
}

function draw() {
  const rows = sorted(kept());
  state.at = Math.min(state.at, Math.max(0, Math.floor((rows.length - 1) / PAGE) * PAGE));
  const shown = rows.slice(state.at, state.at + PAGE);
  const range = rows.length > PAGE ? `${state.at + 1} to ${state.at + shown.length} of ` : "";
  const loaded =
    state.total > state.rows.length
      ? ` Only the best ${state.rows.length} of ${state.total} are shown here; the downloads hold all.`
      : "";
  byId("candidates-count").textContent = `${range}${rows.length} candidates fit the filters, of ${state.rows.length}.${loaded}`;
  byId("candidates-table").replaceChildren(
    node("thead", {}, node("tr", {}, ...columns().map(head))),
    node("tbody", {}, ...shown.map(line)),
  );
  byId("pager").hidden = rows.length <= PAGE;
  byId("page-back").disabled = state.at === 0;
  byId("page-on").disabled = state.at + PAGE >= rows.length;
}

function head([name, title, , leastFirst = false]) {
  const mine = state.sort === name;
  const sort = () => {
    state.up = mine ? !state.up : leastFirst;
    state.sort = name;
    state.at = 0;
    draw();
    byId("candidates-table").querySelector(`[data-sort="${name}"]`).focus();
  };
  const arrow = mine ? (state.up ? " ▲" : " ▼") : "";
  const button = node("button", { type: "button", class: "sort", "data-sort": name, onclick: sort }, ...words(title));
  button.append(node("span", { "aria-hidden": "true" }, arrow));
  return node("th", { scope: "col", "aria-sort": mine ? (state.up ? "ascending" : "descending") : null }, button);
}

function line(row) {
  const open = () => row.formula && state.choose(row.formula);
  const cells = columns().map(([name, , content]) => {
    if (name !== "formula") return node("td", { class: name }, content(row));
    const button = node("button", { type: "button", class: "link" }, formulaNode(row.formula ?? "–"));
    return node("th", { scope: "row" }, button);
  });
  // The button is for the keyboard; its click reaches the row as any other does.
  const click = (event) => getSelection().isCollapsed && !event.target.closest("a") && open();
  return node("tr", { class: row.passed ? "" : "failed", onclick: click }, ...cells);
}

async function download(format) {
  const { name, files } = state.source;
  try {
    const answer = await request(files[format], { accept: "*/*" });
    const link = node("a", { href: URL.createObjectURL(await answer.blob()), download: `kiago-${name}.${format === "report" ? "html" : format}` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    tell(error.message, () => download(format));
  }
}

function turn(by) {
  state.at += by;
  draw();
  byId("candidates-title").scrollIntoView();
}

export function startCandidates() {
  for (const id of ["f-text", "f-tc", "f-passed", "f-new"]) {
    byId(id).addEventListener("input", () => {
      state.at = 0;
      draw();
    });
  }
  downloads().forEach((each) => each.addEventListener("click", () => download(each.dataset.download)));
  byId("page-back").addEventListener("click", () => turn(-PAGE));
  byId("page-on").addEventListener("click", () => turn(PAGE));
}
