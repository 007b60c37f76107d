// The runs that the command line wrote into the service's directory: listed, and shown as a search is.

import { json } from "./api.js";
import { byId, kelvin, node, tell } from "./dom.js";
import { showCandidates } from "./candidates.js";
import { formulaNode } from "./formula.js";
import { leave, say, summary } from "./jobs.js";

const MOST = 100;
const HEADS = ["Run", "Kind", "Base", "Formulas", "Best predicted", "State", "Changed"];

const path = (name) => `v1/runs/${encodeURIComponent(name)}`;
const time = (seconds) => new Date(1000 * seconds).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

export async function listRuns(select) {
  const { total, left_out, runs } = await json(`v1/runs?limit=${MOST}`);
  byId("runs-box").hidden = total === 0;
  const lines = runs.map((run) => {
    const damaged = run.kind === null;
    const open = node("button", { type: "button", class: "link", onclick: () => select(run.name) }, run.name);
    const base = run.base && !run.base.includes(",") ? formulaNode(run.base) : (run.base ?? "–");
    const best = run.best_tc_k === null ? "–" : kelvin(run.best_tc_k);
    const changed = run.changed_at === null ? "–" : time(run.changed_at);
    const state = node("span", { class: damaged || run.state.startsWith("unreadable") ? "wrong" : null }, run.state);
    const cells = [damaged ? run.name : open, run.kind ?? "–", base, run.rows ?? "–", best, state, changed];
    return node("tr", {}, ...cells.map((cell) => node("td", {}, cell)));
  });
  const heads = HEADS.map((text) => node("th", { scope: "col" }, text));
  byId("runs").replaceChildren(node("thead", {}, node("tr", {}, ...heads)), node("tbody", {}, ...lines));
  const more = total - runs.length + left_out;
  byId("runs-more").textContent = more ? `${more} more are not shown; \`kiago runs\` lists them.` : "";
}

export async function showRun(name, choose) {
  const mine = leave(`run=${name}`);
  try {
    const run = await json(path(name), { signal: mine.signal });
    byId("job").hidden = false;
    byId("job-title").replaceChildren("Run ", name);
    byId("job-progress").hidden = true;
    say(`Of the command line (${run.kind}): ${run.state}.`);
    byId("job-summary").replaceChildren(...(run.summary?.top ? summary(run.summary) : []));
    const names = { csv: "top.csv", parquet: "candidates.parquet", report: "report.html" };
    const there = Object.entries(names).filter(([, file]) => run.files.includes(file));
    const place = (file) => `${path(name)}/files/${encodeURIComponent(file)}`;
    const files = Object.fromEntries(there.map(([kind, file]) => [kind, place(file)]));
    const plots = run.files.filter((file) => file.endsWith(".png"));
    if ("parquet" in files) await showCandidates({ path: path(name), name, files, plots, plot: place }, choose);
  } catch (error) {
    if (mine.signal.aborted) return;
    byId("job").hidden = true;
    tell(`This run can't be shown: ${error.message}`, error.status === 404 ? undefined : () => showRun(name, choose));
  }
}
