// The candidates of a finished search: sorted, filtered, in pages, drawn, downloaded.

import { json, request } from "./api.js";
import { byId, node, signed, tell, words } from "./dom.js";
import { formulaNode, parse } from "./formula.js";
import { drawPlots } from "./plots.js";

const PAGE = 100;
const MOST = 1000; // rows that are loaded

const number = (digits) => (value) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const yes = (value) => (value === null ? "–" : value ? "yes" : "no");

const COLUMNS = [
  ["rank", "Rank", (row) => row.rank],
  ["formula", "Formula", null],
  ["trusted_tc_k", "Trusted T_c (K)", (row) => number(1)(row.trusted_tc_k)],
  ["tc_k", "T_c ± (K)", (row) => `${number(1)(row.tc_k)} ± ${number(1)(row.tc_std_k)}`],
  ["tc_oracle_k", "Second opinion (K)", (row) => number(1)(row.tc_oracle_k)],
  ["delta_tc_k", "ΔT_c (K)", (row) => (row.delta_tc_k === null ? "–" : signed(row.delta_tc_k))],
  ["ef_ev_per_atom", "E_f (eV/atom)", (row) => number(3)(row.ef_ev_per_atom)],
  ["extrapolation", "Extrapolation", (row) => number(2)(row.extrapolation) + (row.extrapolated ? " far" : "")],
  ["pauling", "Charges balance", (row) => yes(row.pauling) + (row.oxidation_states ? `: ${row.oxidation_states}` : "")],
  ["nearest_distance", "Nearest known", (row) => (row.nearest_known === null ? "–" : `${row.nearest_known}, ${number(1)(row.nearest_tc_k)} K, at ${number(2)(row.nearest_distance)}`)],
  ["passed", "Passed", (row) => yes(row.passed)],
];

let state = null;

export const hideCandidates = () => (byId("candidates").hidden = true);

export async function showCandidates(job, choose) {
  const page = await json(`v1/searches/${job.id}/candidates?limit=${MOST}`);
  state = { job, choose, rows: page.candidates, total: page.total, sort: "rank", up: true, at: 0 };
  byId("candidates").hidden = false;
  draw();
  drawPlots(byId("plots"), state.rows.filter((row) => row.passed), job);
}

function kept() {
  const text = byId("f-text").value.trim();
  const least = byId("f-tc").value === "" ? null : Number(byId("f-tc").value);
  const passed = byId("f-passed").checked;
  const fresh = byId("f-new").checked;
  return state.rows.filter((row) => {
    if (passed && !row.passed) return false;
    if (fresh && (row.novel === false || row.not_in_supercon === false)) return false;
    if (least !== null && !(row.trusted_tc_k >= least)) return false;
    return !text || holds(row.formula ?? "", text);
  });
}

// An element is looked for as one: S does not find Sr.
function holds(formula, text) {
  const asked = parse(text).amounts;
  if (asked && asked.size === 1 && [...asked.values()][0] === 1) return parse(formula).amounts?.has([...asked.keys()][0]);
  return formula.toLowerCase().includes(text.toLowerCase());
}

function sorted(rows) {
  const { sort, up } = state;
  return [...rows].sort((a, b) => {
    const [x, y] = [a[sort], b[sort]];
    if (x === y) return a.rank - b.rank;
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return (x < y ? -1 : 1) * (up ? 1 : -1);
  });
}

function draw() {
  const rows = sorted(kept());
  state.at = Math.min(state.at, Math.max(0, Math.floor((rows.length - 1) / PAGE) * PAGE));
  const shown = rows.slice(state.at, state.at + PAGE);
  const loaded = state.total > state.rows.length ? ` The best ${state.rows.length} of ${state.total} are here; the downloads hold all.` : "";
  const range = rows.length ? `${state.at + 1} to ${state.at + shown.length} of ` : "";
  byId("candidates-count").textContent = `${range}${rows.length} candidates that fit the filters, of ${state.rows.length}.${loaded}`;
  byId("candidates-table").replaceChildren(node("thead", {}, node("tr", {}, ...COLUMNS.map(head))), node("tbody", {}, ...shown.map(line)));
  byId("pager").hidden = rows.length <= PAGE;
  byId("page-back").disabled = state.at === 0;
  byId("page-on").disabled = state.at + PAGE >= rows.length;
}

function head([name, title]) {
  const mine = state.sort === name;
  const sort = () => {
    state.up = mine ? !state.up : name === "rank" || name === "formula" || name === "ef_ev_per_atom" || name.endsWith("distance") || name === "extrapolation";
    state.sort = name;
    state.at = 0;
    draw();
    byId("candidates-table").querySelector(`[data-sort="${name}"]`).focus();
  };
  const arrow = mine ? (state.up ? " ▲" : " ▼") : "";
  return node(
    "th",
    { scope: "col", "aria-sort": mine ? (state.up ? "ascending" : "descending") : "none" },
    node("button", { type: "button", class: "sort", "data-sort": name, onclick: sort }, ...words(title), node("span", { "aria-hidden": "true" }, arrow)),
  );
}

function line(row) {
  const cells = COLUMNS.map(([name, , text]) => {
    if (name === "formula") {
      return node("td", {}, node("button", { type: "button", class: "link", onclick: () => state.choose(row.formula) }, formulaNode(row.formula ?? "–")));
    }
    return node("td", { class: name === "pauling" || name === "nearest_distance" ? "wide" : "" }, String(text(row)));
  });
  return node("tr", { class: row.passed ? "" : "failed" }, ...cells);
}

async function download(format) {
  try {
    const answer = await request(`v1/searches/${state.job.id}/candidates?format=${format}`, { accept: "*/*" });
    const link = node("a", { href: URL.createObjectURL(await answer.blob()), download: `kiago-${state.job.id}.${format}` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    tell(error.message, () => download(format));
  }
}

export function startCandidates() {
  for (const id of ["f-text", "f-tc", "f-passed", "f-new"]) {
    byId(id).addEventListener("input", () => {
      state.at = 0;
      draw();
    });
  }
  document.querySelectorAll("[data-download]").forEach((each) => each.addEventListener("click", () => download(each.dataset.download)));
  byId("page-back").addEventListener("click", () => ((state.at -= PAGE), draw()));
  byId("page-on").addEventListener("click", () => ((state.at += PAGE), draw()));
}
