// The searches of the service, and the one that is watched.

import { follow, json, unfinished } from "./api.js";
import { byId, kelvin, node, signed, tc, tell } from "./dom.js";
import { formulaNode } from "./formula.js";
import { hideCandidates, showCandidates } from "./candidates.js";

const LISTED = 20; // at first, and more with each click
const MOST = 100; // that the service lists
const REFRESH_MS = 10_000; // of the list, while a search in it goes on

const STATES = { queued: "waits", running: "runs", done: "done", failed: "failed", cancelled: "cancelled" };
const HEADS = ["Base", "Preset", "Candidates", "State", "Asked for"];

let current = null; // {id, ended: AbortController}
let listed = LISTED;
let drawn = "";
let timer = 0;

export const watched = () => current?.id;

const time = (text) => new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
const base = (job) => (job.base ? formulaNode(job.base) : "random starts");
const path = (id) => `v1/searches/${encodeURIComponent(id)}`;

export async function listJobs(select) {
  clearTimeout(timer);
  const found = await json(`v1/searches?limit=${listed}`);
  if (found.searches.some(unfinished)) timer = setTimeout(() => listJobs(select).catch(() => {}), REFRESH_MS);
  const now = JSON.stringify([found.total, current?.id, found.searches.map(({ id, state }) => [id, state])]);
  if (now === drawn) return;
  drawn = now;
  const focused = byId("jobs").contains(document.activeElement) ? document.activeElement.dataset.id : undefined;
  byId("jobs").replaceChildren(...(found.total ? table(found, select) : [node("p", { class: "hint" }, "None yet.")]));
  if (focused) byId("jobs").querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}

function table({ searches, total }, select) {
  const heads = HEADS.map((text) => node("th", { scope: "col" }, text));
  const lines = searches.map((job) => {
    const attributes = { type: "button", class: "link", "data-id": job.id, onclick: () => select(job.id) };
    const open = node("button", attributes, base(job));
    const cells = [open, job.preset, job.candidates, STATES[job.state], time(job.submitted_at)];
    const mine = job.id === current?.id ? "true" : null;
    return node("tr", { "aria-current": mine }, ...cells.map((cell) => node("td", {}, cell)));
  });
  const more = () => {
    listed = Math.min(listed + LISTED, MOST);
    listJobs(select).catch((error) => tell(error.message));
  };
  return [
    node(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Searches" },
      node("table", {}, node("thead", {}, node("tr", {}, ...heads)), node("tbody", {}, ...lines)),
    ),
    total > searches.length && searches.length < MOST
      ? node("button", { type: "button", "data-id": "more", onclick: more }, `Show more than ${searches.length} of ${total}`)
      : "",
  ];
}

function sourceOf({ id, plots }) {
  const table = `${path(id)}/candidates?format=`;
  const files = { csv: `${table}csv`, parquet: `${table}parquet` };
  return { path: path(id), name: id, files, plots, plot: (name) => `${path(id)}/plots/${encodeURIComponent(name)}` };
}

// Leaves the search that is watched, for `id` that is shown instead. Answers what ends when that is left.
export function leave(id) {
  current?.ended.abort();
  current = { id, ended: new AbortController() };
  hideCandidates();
  return current.ended;
}

// Follows a search to its end and shows its candidates. `changed` is called when its state is another.
export async function watch(id, choose, changed) {
  const mine = leave(id);
  let job = null;
  const heard = (now) => {
    const other = job !== null && job.state !== now.state;
    job = now;
    show(job, changed);
    if (other) changed();
  };
  try {
    heard(await json(path(id), { signal: mine.signal }));
    changed(); // it is marked in the list
    const lost = () => say("The connection is lost; trying again.");
    if (unfinished(job)) await follow(path(id), heard, lost, mine.signal);
    if (job.state === "done") await showCandidates(sourceOf(job), choose);
  } catch (error) {
    if (mine.signal.aborted) return;
    current = null;
    byId("job").hidden = true;
    const again = error.status === 404 ? undefined : () => watch(id, choose, changed);
    tell(`This search can't be shown: ${error.message}`, again);
  }
}

// Screen readers are told what changed, not each step.
export function say(text) {
  const line = byId("job-status");
  if (line.textContent !== text) line.textContent = text;
}

function show(job, changed) {
  const { done, total, phase } = job.progress;
  const percent = total ? Math.floor((100 * done) / total) : 0;
  byId("job").hidden = false;
  byId("job-title").replaceChildren("Search around ", base(job), `, ${job.candidates} candidates`);
  const sentences = {
    queued: job.place_in_queue > 1 ? `It waits; searches before it: ${job.place_in_queue - 1}.` : "It waits for its turn.",
    running: phase === "merging" ? "Its results are being put together." : "It runs.",
    done: "It is done.",
    failed: `It failed: ${job.error}`,
    cancelled: "It was cancelled.",
  };
  say(sentences[job.state]);
  const bar = byId("job-bar");
  bar.setAttribute("aria-valuenow", percent);
  bar.setAttribute("aria-valuetext", `${done} of ${total} steps`);
  bar.firstElementChild.style.width = `${percent}%`;
  byId("job-count").textContent = `${done} of ${total} steps, ${percent} %`;
  byId("job-progress").hidden = !unfinished(job);
  const cancel = byId("job-cancel");
  cancel.onclick = async () => {
    cancel.disabled = true;
    try {
      await json(path(job.id), { method: "DELETE" });
      say("It is being cancelled.");
      changed();
    } catch (error) {
      tell(error.message);
    }
    cancel.disabled = false;
  };
  byId("job-summary").replaceChildren(...(job.summary ? summary(job.summary) : []));
}

export function summary(of) {
  const best = [...new Map(of.top.map((each) => [each.used, each])).values()].filter((each) => each.used);
  const line = (name, value) => [node("dt", {}, ...[name].flat()), node("dd", {}, value)];
  return [
    ...line("Passed every screen", `${of.passed} of ${of.unique} different formulas`),
    ...(of.base ? line([tc(), " of the base, predicted"], kelvin(of.base.tc_predicted_k)) : []),
    ...best.flatMap((each) => [
      ...line(
        ["Δ", tc(), ` of the best ${each.used}`],
        `${signed(each.delta_tc_k)} K; second opinion ${signed(each.delta_tc_oracle_k)} K`,
      ),
      ...line(`Exploitation gap of the best ${each.used}`, `${signed(each.gap_k)} K`),
    ]),
  ];
}
