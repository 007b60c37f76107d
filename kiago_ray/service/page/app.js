// What the page does when something is typed, chosen or linked to. The address after # is a formula, or search=ID.

import { Problem, json } from "./api.js";
import { startCandidates } from "./candidates.js";
import { byId, clear, node, tell } from "./dom.js";
import { formulaNode, parse } from "./formula.js";
import { listJobs, watch } from "./jobs.js";
import { showPrediction } from "./predict.js";
import { startSearch } from "./search.js";
import { showElements, startElements } from "./table.js";

const EXAMPLES = ["LaNiAsO", "YBa2Cu3O7", "MgB2", "LaPt2B2C", "H3S"];
const WAIT_MS = 400; // after the last key

let known = null;
let timer = 0;
let running = null;
let shown = "";

const status = (text, wrong = false) => {
  const line = byId("formula-status");
  line.textContent = text;
  line.classList.toggle("wrong", wrong);
  byId("formula").setAttribute("aria-invalid", wrong);
};

// Checks what is typed, and asks the service once it can be read.
function typed({ now = false } = {}) {
  clearTimeout(timer);
  const text = byId("formula").value.trim();
  const found = parse(text, known);
  if (found.error !== undefined) {
    status(found.error, found.error !== "");
    return;
  }
  status("");
  timer = setTimeout(() => explain(text, found.amounts), now ? 0 : WAIT_MS);
}

async function explain(text, amounts) {
  if (text === shown) return;
  running?.abort();
  const mine = (running = new AbortController());
  byId("prediction").setAttribute("aria-busy", "true");
  status("Asking the models …");
  try {
    const found = await json("v1/explain", {
      method: "POST",
      body: { formula: text },
      signal: mine.signal,
      busy: (seconds) => status(`The service is busy; asking again in ${seconds} s.`),
    });
    clear();
    status("");
    shown = text;
    if (decodeURIComponent(location.hash.slice(1)) !== text) history.pushState(null, "", `#${encodeURIComponent(text)}`);
    document.title = `${text} · kiago-ray`;
    showPrediction(found, choose);
    showElements(found, amounts, choose);
    byId("s-base").value = text;
  } catch (error) {
    if (error.name === "AbortError") return;
    status(error instanceof Problem && error.status === 422 ? error.message : "", true);
    if (!(error instanceof Problem) || error.status !== 422) tell(error.message, () => explain(text, amounts));
  } finally {
    if (running === mine) byId("prediction").setAttribute("aria-busy", "false");
  }
}

// Puts a formula into the box and predicts it.
function choose(formula) {
  byId("formula").value = formula;
  typed({ now: true });
  byId("predict").scrollIntoView({ block: "start" });
}

function follow(id) {
  if (decodeURIComponent(location.hash) !== `#search=${id}`) history.pushState(null, "", `#search=${id}`);
  byId("job").hidden = false;
  watch(id, choose, refresh);
  byId("job-title").focus({ preventScroll: true });
  byId("job").scrollIntoView({ block: "nearest" });
}

const refresh = () => listJobs(follow).catch((error) => tell(error.message, refresh));

function linked() {
  const text = decodeURIComponent(location.hash.slice(1));
  if (text.startsWith("search=")) follow(text.slice("search=".length));
  else if (text && !document.getElementById(text)) {
    byId("formula").value = text;
    typed({ now: true });
  }
}

async function start() {
  startElements();
  startCandidates();
  byId("formula").addEventListener("input", () => typed());
  byId("formula-form").addEventListener("submit", (event) => {
    event.preventDefault();
    shown = "";
    typed({ now: true });
  });
  byId("examples").append(
    ...EXAMPLES.flatMap((each) => [" ", node("button", { type: "button", class: "link", onclick: () => choose(each) }, formulaNode(each))]),
  );
  document.querySelectorAll("[data-jump]").forEach((link) =>
    link.addEventListener("click", (event) => {
      event.preventDefault(); // the address after # is for formulas
      byId(link.dataset.jump).scrollIntoView();
      byId(link.dataset.jump).focus({ preventScroll: true });
    }),
  );
  window.addEventListener("popstate", linked);
  await load();
  linked();
}

async function load() {
  try {
    const models = await json("v1/models");
    clear();
    known = new Set(models.elements);
    startSearch(models, (job) => (refresh(), follow(job.id)));
    byId("models").textContent = `Models ${models.version}, kiago-ray ${models.service.kiago_ray}; held against ${models.known.compositions.toLocaleString("en")} known compositions: ${models.known.source}.`;
    await refresh();
  } catch (error) {
    tell(error.message, load);
  }
}

start();
