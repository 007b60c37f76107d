// What the page does when something is typed, chosen or linked to. The address after # is a formula, or search=ID.

import { Problem, json } from "./api.js";
import { startCandidates } from "./candidates.js";
import { byId, clear, kelvin, node, tell } from "./dom.js";
import { startElement } from "./element.js";
import { formulaNode, parse } from "./formula.js";
import { listJobs, watch, watched } from "./jobs.js";
import { showPrediction } from "./predict.js";
import { listRuns, showRun } from "./runs.js";
import { proposeScan, startScan } from "./scan.js";
import { offerSearch, proposeBase, startSearch } from "./search.js";
import { showElements, startElements } from "./table.js";

const EXAMPLES = ["LaNiAsO", "YBa2Cu3O7", "MgB2", "LaPt2B2C", "H3S"];
const WAIT_MS = 400; // after the last key

let known = null;
let longest = 200; // characters of a formula
let timer = 0;
let running = null;
let shown = "";

function status(text, wrong = false) {
  const line = byId("formula-status");
  line.textContent = text;
  line.classList.toggle("wrong", wrong);
  byId("formula").setAttribute("aria-invalid", wrong);
}

// Checks what the box holds, and asks the service once it can be read. `step`: as in `record`.
function read(step, wait = 0) {
  clearTimeout(timer);
  running?.abort();
  const text = byId("formula").value.trim();
  byId("prediction").setAttribute("aria-busy", text !== shown); // it fades until it goes, or comes anew
  const long = `A formula may have ${longest} characters; this has ${text.length}.`;
  const found = text.length > longest ? { error: long } : parse(text, known);
  status(found.error ?? "", Boolean(found.error));
  if (found.error !== undefined) timer = setTimeout(forget, wait);
  else if (text !== shown) timer = setTimeout(() => explain(text, found.amounts, step), wait);
}

// The numbers of a formula that the box no longer holds go.
function forget() {
  shown = "";
  document.title = "kiago-ray";
  byId("prediction").replaceChildren();
  byId("prediction").setAttribute("aria-busy", "false");
  byId("elements").hidden = true;
  byId("said").textContent = "";
}

async function explain(text, amounts, step) {
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
    record(text, step);
    document.title = `${text} · kiago-ray`;
    showPrediction(found, choose);
    showElements(found, amounts, history.state?.from);
    proposeBase(text);
    proposeScan(text);
    byId("said").textContent =
      `${text}: predicted critical temperature ${kelvin(found.tc_k)}, to trust ${kelvin(found.trusted_tc_k)}` +
      (found.extrapolated ? "; far from anything known." : ".");
  } catch (error) {
    if (error.name === "AbortError") return;
    forget();
    const refused = error instanceof Problem && error.status === 422;
    status(refused ? error.message : "", refused);
    if (!refused) tell(error.message, () => explain(text, amounts, step));
  } finally {
    if (running === mine) byId("prediction").setAttribute("aria-busy", "false");
  }
}

// Puts the formula into the address. However many formulas are passed through by typing, they make one step to go back
// by; each one chosen is a step of its own. `from`: the formula that the periodic table changed, and its T_c.
function record(text, { typed = false, from } = {}) {
  const address = `#${encodeURIComponent(text)}`;
  if (linkedTo() === text) return;
  if (typed && history.state?.typed) history.replaceState({ typed }, "", address);
  else history.pushState({ typed, from }, "", address);
}

// What the address asks for.
function linkedTo() {
  const text = location.hash.slice(1);
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Puts a formula into the box and predicts it.
function choose(formula) {
  byId("formula").value = formula;
  read({});
  byId("predict").scrollIntoView({ block: "start" });
  byId("predict").focus({ preventScroll: true });
}

// The same for a formula that the periodic table changed; who looks at the table stays there.
function change(formula, from) {
  byId("formula").value = formula;
  read({ from });
}

function select(id) {
  if (linkedTo() !== `search=${id}`) history.pushState(null, "", `#search=${encodeURIComponent(id)}`);
  if (watched() !== id) watch(id, choose, refresh);
  goToJob();
}

function selectRun(name) {
  if (linkedTo() !== `run=${name}`) history.pushState(null, "", `#run=${encodeURIComponent(name)}`);
  if (watched() !== `run=${name}`) showRun(name, choose);
  refresh();
  goToJob();
}

function goToJob() {
  byId("job").hidden = false;
  byId("job-title").scrollIntoView({ block: "start" });
  byId("job-title").focus({ preventScroll: true });
}

const refresh = () => listJobs(select).catch((error) => tell(error.message, refresh));

function linked() {
  const text = linkedTo();
  if (text.startsWith("search=")) select(text.slice("search=".length));
  else if (text.startsWith("run=")) selectRun(text.slice("run=".length));
  else if (text && !document.getElementById(text)) {
    if (history.state?.typed) history.replaceState({ ...history.state, typed: false }, "");
    byId("formula").value = text;
    read({});
  }
}

function jump(event) {
  event.preventDefault(); // the address after # is for formulas
  const to = byId(event.currentTarget.dataset.jump);
  to.scrollIntoView();
  to.focus({ preventScroll: true });
}

async function load() {
  try {
    const models = await json("v1/models");
    clear();
    known = new Set(models.elements);
    longest = models.limits.formula_length;
    offerSearch(models);
    const compositions = models.known.compositions.toLocaleString("en");
    byId("models").textContent =
      `Models ${models.version}, kiago-ray ${models.service.kiago_ray}; held against ${compositions} known ` +
      `compositions: ${models.known.source}.`;
    await refresh();
    await listRuns(selectRun);
    linked();
  } catch (error) {
    tell(error.message, load);
  }
}

function start() {
  startElements();
  startElement(change);
  startCandidates();
  startScan(choose);
  startSearch((job) => {
    refresh();
    select(job.id);
  });
  byId("formula").addEventListener("input", () => read({ typed: true }, WAIT_MS));
  byId("formula-form").addEventListener("submit", (event) => {
    event.preventDefault();
    shown = "";
    read({ typed: true });
  });
  for (const each of EXAMPLES) {
    const button = node("button", { type: "button", class: "link", onclick: () => choose(each) }, formulaNode(each));
    byId("examples").append(" ", button);
  }
  document.querySelectorAll("[data-jump]").forEach((link) => link.addEventListener("click", jump));
  window.addEventListener("popstate", linked);
  load();
}

start();
