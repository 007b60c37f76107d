// The searches of the service, and the one that is watched.

import { events, json } from "./api.js";
import { byId, kelvin, node, signed, tc, tell } from "./dom.js";
import { formulaNode } from "./formula.js";
import { hideCandidates, showCandidates } from "./candidates.js";

let watched = null;

const STATES = { queued: "waits", running: "runs", done: "done", failed: "failed", cancelled: "cancelled" };
const time = (text) => (text ? new Date(text).toLocaleString() : "");

export async function listJobs(select) {
  const { searches, total } = await json("v1/searches?limit=20");
  if (!total) {
    byId("jobs").replaceChildren(node("p", { class: "hint" }, "None yet."));
    return;
  }
  const lines = searches.map((job) => {
    const name = node("button", { type: "button", class: "link", onclick: () => select(job.id) }, job.base ? formulaNode(job.base) : "random starts");
    return node("tr", {}, ...[name, job.preset, job.candidates, STATES[job.state], time(job.submitted_at)].map((cell) => node("td", {}, cell)));
  });
  const heads = ["Base", "Preset", "Candidates", "State", "Asked for"].map((text) => node("th", { scope: "col" }, text));
  byId("jobs").replaceChildren(
    node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Searches" }, node("table", {}, node("thead", {}, node("tr", {}, ...heads)), node("tbody", {}, ...lines))),
    ...(total > searches.length ? [node("p", { class: "hint" }, `The newest ${searches.length} of ${total}.`)] : []),
  );
}

// Follows a search to its end and shows its candidates.
export async function watch(id, choose, changed) {
  watched?.abort();
  const mine = (watched = new AbortController());
  hideCandidates();
  byId("job").hidden = false;
  let job;
  try {
    job = await json(`v1/searches/${encodeURIComponent(id)}`, { signal: mine.signal });
    show(job, changed);
    if (job.state === "queued" || job.state === "running") {
      await events(
        `v1/searches/${encodeURIComponent(id)}/events`,
        (_, now) => {
          job = now;
          show(now, changed);
        },
        mine.signal,
      );
      if (mine.signal.aborted) return;
      job = await json(`v1/searches/${encodeURIComponent(id)}`, { signal: mine.signal });
      show(job, changed);
      changed();
    }
    if (job.state === "done") await showCandidates(job, choose);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("job").hidden = true;
    tell(error.message);
  }
}

function show(job, changed) {
  const { done, total, phase } = job.progress;
  const percent = total ? Math.floor((100 * done) / total) : 0;
  byId("job-title").replaceChildren("Search around ", job.base ? formulaNode(job.base) : "random starts", `, ${job.candidates} candidates`);
  const words = {
    queued: `It waits${job.place_in_queue ? `, at place ${job.place_in_queue}` : ""}.`,
    running: phase === "merging" ? "Its results are being put together." : `It runs: ${done} of ${total} steps.`,
    done: "It is done.",
    failed: `It failed: ${job.error}`,
    cancelled: "It was cancelled.",
  };
  byId("job-status").textContent = words[job.state];
  const bar = byId("job-bar");
  bar.setAttribute("aria-valuenow", percent);
  bar.firstElementChild.style.width = `${percent}%`;
  const cancel = byId("job-cancel");
  cancel.hidden = bar.hidden = job.state !== "queued" && job.state !== "running";
  cancel.onclick = async () => {
    cancel.disabled = true;
    try {
      await json(`v1/searches/${job.id}`, { method: "DELETE" });
    } catch (error) {
      tell(error.message);
    }
    cancel.disabled = false;
    changed();
  };
  byId("job-summary").replaceChildren(...(job.summary ? summary(job.summary) : []));
}

function summary(of) {
  const best = of.top.filter((each) => each.used);
  const line = (name, value) => [node("dt", {}, ...[name].flat()), node("dd", {}, value)];
  return [
    ...line("Passed every screen", `${of.passed} of ${of.unique} different formulas`),
    ...(of.base ? line([tc(), " of the base, predicted"], kelvin(of.base.tc_predicted_k)) : []),
    ...best.flatMap((each) => [
      ...line(["Δ", tc(), ` of the best ${each.used}`], `${signed(each.delta_tc_k)} K; second opinion ${signed(each.delta_tc_oracle_k)} K`),
      ...line(`Exploitation gap of the best ${each.used}`, kelvin(each.gap_k)),
    ]),
  ];
}
