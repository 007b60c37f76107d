// The form that starts a search: its fields as a specification.

import { Problem, json } from "./api.js";
import { byId, node } from "./dom.js";

const PRESETS = {
  default: "Ours: the ensemble's lower bound, charges balanced, integer formulas; what can be trusted first.",
  paper: "The paper's equations and constants.",
  reference: "The constants of the paper's published code.",
  hydride: "40 % hydrogen and more; nothing there can be trusted without a calculation under pressure.",
  substitution: "One site of the base is replaced; name it under Constraints, such as La:+3.",
};
const ROW_STEPS_A_SECOND = 1500; // of two cores

let limits = null;

const whole = (id) => {
  const text = byId(id).value.trim();
  return text === "" ? undefined : Number(text);
};
const symbols = (id) => byId(id).value.split(/[\s,;]+/).filter(Boolean);

export function startSearch(models, started) {
  limits = models.limits;
  byId("s-preset").replaceChildren(...Object.keys(models.presets).map((name) => node("option", { value: name }, name)));
  byId("s-candidates").max = limits.search_candidates;
  const form = byId("search-form");
  form.addEventListener("input", told);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(started);
  });
  told();
}

function told() {
  const preset = byId("s-preset").value;
  byId("preset-hint").textContent = PRESETS[preset] ?? "";
  byId("site-line").hidden = preset !== "substitution";
  const price = (whole("s-candidates") ?? 0) * ((whole("s-steps1") ?? 0) + (whole("s-steps2") ?? 0));
  const seconds = price / ROW_STEPS_A_SECOND;
  const time = seconds < 90 ? `${Math.max(5, Math.round(seconds / 5) * 5)} seconds` : `${Math.round(seconds / 60)} minutes`;
  byId("price").textContent = `${price.toLocaleString("en")} row-steps of ${limits.search_row_steps.toLocaleString("en")} allowed: about ${time} on two cores.`;
}

function specification() {
  const more = byId("s-more").value.trim();
  let others = {};
  if (more) {
    try {
      others = JSON.parse(more);
    } catch {
      throw new Problem(422, 'Any other field: this is no JSON; write such as {"alpha": 4}.');
    }
  }
  const fixed = symbols("s-fixed").map((text) => text.split("="));
  const wrong = fixed.find(([symbol, share]) => !symbol || !(Number(share) > 0));
  if (wrong) throw new Problem(422, `Fixed shares: ${wrong.join("=")} is none; write such as O=0.25.`);
  const elements = { allow: symbols("s-allow"), forbid: symbols("s-forbid") };
  const atoms = { min: whole("s-min-atoms"), max: whole("s-max-atoms") };
  const site = byId("s-site").value.trim().match(/^([A-Z][a-z]?)\s*:\s*([+-]?\d+)$/);
  const preset = byId("s-preset").value;
  return {
    base: byId("s-base").value.trim() || undefined,
    preset,
    candidates: whole("s-candidates"),
    steps: [whole("s-steps1") ?? 0, whole("s-steps2") ?? 0],
    seed: whole("s-seed"),
    ...(byId("s-max").value && { max_elements: whole("s-max") }),
    ...((atoms.min || atoms.max) && { n_unit: atoms }),
    ...(elements.allow.length || elements.forbid.length
      ? { elements: { ...(elements.allow.length && { allow: elements.allow }), ...(elements.forbid.length && { forbid: elements.forbid }) } }
      : {}),
    ...(fixed.length && { fixed: Object.fromEntries(fixed.map(([symbol, share]) => [symbol, Number(share)])) }),
    ...(preset === "substitution" && site && { substitute: { [site[1]]: Number(site[2]) } }),
    ...others,
  };
}

async function submit(started) {
  const problem = byId("search-problem");
  const button = byId("search-form").querySelector("button[type=submit]");
  problem.hidden = true;
  button.disabled = true;
  try {
    started(await json("v1/searches", { method: "POST", body: specification() }));
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    problem.focus();
  } finally {
    button.disabled = false;
  }
}
