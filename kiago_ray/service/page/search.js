// The form that starts a search: its fields as a specification.

import { Problem, json } from "./api.js";
import { byId, node } from "./dom.js";
import { chips, shares, symbolList } from "./fields.js";
import { parse } from "./formula.js";

const PRESETS = {
  default: "Ours: the base's sites stay and are doped or swapped; what is plausible and likely an improvement first.",
  open: "Ours, any element may come in: the ensemble's lower bound, charges balanced; what can be trusted first.",
  paper: "The paper's equations and constants.",
  reference: "The constants of the paper's published code.",
  hydride: "40 % hydrogen and more; nothing there can be trusted without a calculation under pressure.",
  substitution: "One site of the base is replaced by elements of its oxidation state; name it under Constraints.",
};
const ROW_STEPS_A_SECOND = 1500; // of two cores

let models = null;
let proposed = "";
let allowed, forbidden, fixed;

const text = (id) => byId(id).value.trim();
const whole = (id) => (text(id) === "" ? undefined : Number(text(id)));

export function startSearch(started) {
  allowed = chips("s-allow");
  forbidden = chips("s-forbid");
  fixed = shares("s-fixed");
  byId("symbols").replaceChildren(...symbolList());
  byId("search-form").addEventListener("input", told);
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(started);
  });
}

// What this service can do.
export function offerSearch(described) {
  models = described;
  byId("s-preset").replaceChildren(...Object.keys(models.presets).map((name) => node("option", { value: name }, name)));
  byId("s-candidates").max = models.limits.search_candidates;
  told();
}

// The base is what was predicted last, unless somebody wrote another.
export function proposeBase(formula) {
  if (text("s-base") !== proposed) return;
  byId("s-base").value = proposed = formula;
  told();
}

function told() {
  if (!models) return;
  const preset = text("s-preset");
  const spec = models.presets[preset];
  byId("preset-hint").textContent = PRESETS[preset] ?? "";
  byId("s-max").placeholder = spec.max_elements;
  byId("s-min-atoms").placeholder = spec.n_unit.min;
  byId("s-max-atoms").placeholder = spec.n_unit.max;
  const substitution = preset === "substitution";
  if (substitution && byId("site-line").hidden) byId("constraints").open = true;
  byId("site-line").hidden = !substitution;
  sites();
  const price = (whole("s-candidates") ?? 0) * ((whole("s-steps1") ?? 0) + (whole("s-steps2") ?? 0));
  const seconds = price / ROW_STEPS_A_SECOND;
  const time = seconds < 90 ? `${Math.max(5, Math.round(seconds / 5) * 5)} seconds` : `${Math.round(seconds / 60)} minutes`;
  const most = models.limits.search_row_steps;
  byId("price").textContent =
    `Candidates × steps: ${price.toLocaleString("en")}, about ${time} on two cores` +
    (price > most ? `; this service takes ${most.toLocaleString("en")} at most.` : ".");
  byId("price").classList.toggle("wrong", price > most);
}

// The sites that the base has.
function sites() {
  const symbols = [...(parse(text("s-base")).amounts?.keys() ?? [])];
  const select = byId("s-site");
  if ([...select.options].map((each) => each.value).join() === symbols.join()) return;
  const chosen = select.value;
  select.replaceChildren(...symbols.map((value) => node("option", { value, selected: value === chosen }, value)));
}

// Fields that the form has no place for: JSON, or lines such as start.kind: random.
function others() {
  const given = text("s-more");
  if (!given) return {};
  if (given.startsWith("{")) {
    try {
      return JSON.parse(given);
    } catch {
      throw new Problem(422, 'Other fields: this is no JSON; write such as {"alpha": 4}.');
    }
  }
  const lines = given.split("\n").filter((line) => line.trim());
  return Object.fromEntries(
    lines.map((line) => {
      const [, key, value] = line.match(/^\s*([\w.]+)\s*:\s*(.+?)\s*$/) ?? [];
      if (!key) throw new Problem(422, `Other fields: “${line}” is none; write such as alpha: 4.`);
      try {
        return [key, JSON.parse(value)];
      } catch {
        return [key, value];
      }
    }),
  );
}

function fixedShares() {
  const pairs = fixed();
  const wrong = pairs.find(([symbol, share]) => !symbol || !share);
  if (wrong) throw new Problem(422, "Fixed shares: each needs an element and a share of all atoms, such as O and 0.25.");
  return Object.fromEntries(pairs.map(([symbol, share]) => [symbol, Number.isNaN(Number(share)) ? share : Number(share)]));
}

function specification() {
  const elements = { allow: allowed(), forbid: forbidden() };
  const atoms = { min: whole("s-min-atoms"), max: whole("s-max-atoms") };
  const shares = fixedShares();
  const preset = text("s-preset");
  const given = {
    base: text("s-base") || undefined,
    preset,
    candidates: whole("s-candidates"),
    steps: [whole("s-steps1") ?? 0, whole("s-steps2") ?? 0],
    seed: whole("s-seed"),
    max_elements: whole("s-max"), // what is undefined is not sent: then the preset's holds
  };
  if (atoms.min !== undefined || atoms.max !== undefined) given.n_unit = atoms;
  if (elements.allow.length) given.elements = { allow: elements.allow };
  if (elements.forbid.length) given.elements = { ...given.elements, forbid: elements.forbid };
  if (Object.keys(shares).length) given.fixed = shares;
  if (preset === "substitution" && text("s-site")) given.substitute = { [text("s-site")]: whole("s-state") };
  return { ...given, ...others() };
}

async function submit(started) {
  const problem = byId("search-problem");
  const button = byId("search-start");
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
