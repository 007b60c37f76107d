// Two plots of the candidates that passed, drawn here, and those that the service drew.

import { request } from "./api.js";
import { node, svg, words } from "./dom.js";

const SIZE = { width: 420, height: 320, left: 52, right: 12, top: 14, bottom: 46 };

export function drawPlots(into, rows, job) {
  const both = rows.filter((row) => row.tc_k !== null && row.tc_oracle_k !== null);
  const near = rows.filter((row) => row.trusted_tc_k !== null && row.nearest_distance !== null);
  into.replaceChildren(
    ...(both.length
      ? [
          scatter(
            both.map((row) => [row.tc_k, row.tc_oracle_k, row.formula]),
            "Tc by the search's model (K)",
            "Tc, second opinion (K)",
            "Below the diagonal the search is more hopeful than the second opinion.",
            true,
          ),
        ]
      : []),
    ...(near.length
      ? [
          scatter(
            near.map((row) => [row.nearest_distance, row.trusted_tc_k, row.formula]),
            "L1 distance to the nearest known",
            "Trusted Tc (K)",
            "Left are the ones that are close to something measured.",
            false,
          ),
        ]
      : []),
  );
  for (const name of job.plots) {
    const image = node("img", { alt: captions[name] ?? name, loading: "lazy" });
    into.append(node("figure", {}, image, node("figcaption", {}, ...words(captions[name] ?? name))));
    load(image, `v1/searches/${job.id}/plots/${name}`);
  }
}

const captions = {
  "tc_against_ef.png": "Predicted T_c against formation energy of every different formula.",
  "pareto.png": "Trusted T_c against formation energy; the front is what no other formula beats.",
  "search_against_oracle.png": "The best by the search's model and by the second opinion.",
  "trajectory.png": "T_c, formation energy and integer loss over the steps.",
};

async function load(image, path) {
  try {
    const answer = await request(path, { accept: "image/png" });
    image.src = URL.createObjectURL(await answer.blob());
  } catch {
    image.closest("figure").remove();
  }
}

function ticks(low, high) {
  const raw = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw);
  const first = Math.ceil(low / step) * step;
  return Array.from({ length: Math.floor((high - first) / step + 1e-9) + 1 }, (_, at) => first + at * step);
}

function scatter(points, xTitle, yTitle, caption, diagonal) {
  const { width, height, left, right, top, bottom } = SIZE;
  let [xMost, yMost] = [0, 1].map((at) => Math.max(...points.map((point) => point[at])) * 1.05 || 1);
  if (diagonal) xMost = yMost = Math.max(xMost, yMost);
  const x = (value) => left + (value / xMost) * (width - left - right);
  const y = (value) => height - bottom - (value / yMost) * (height - top - bottom);
  const label = (value) => String(Number(value.toPrecision(6)));
  const title = `${yTitle} against ${xTitle}, ${points.length} candidates`;
  const drawn = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    svg("title", {}, title),
    ...ticks(0, xMost).map((value) =>
      svg("g", {}, svg("line", { x1: x(value), x2: x(value), y1: top, y2: height - bottom, class: "rule" }), svg("text", { x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, label(value))),
    ),
    ...ticks(0, yMost).map((value) =>
      svg("g", {}, svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "rule" }), svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, label(value))),
    ),
    ...(diagonal ? [svg("line", { x1: x(0), y1: y(0), x2: x(xMost), y2: y(yMost), class: "diagonal" })] : []),
    ...points.map(([a, b, name]) => svg("circle", { cx: x(a), cy: y(b), r: 3.2 }, svg("title", {}, `${name}: ${a.toFixed(2)}, ${b.toFixed(1)}`))),
    svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xTitle),
    svg("text", { transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yTitle),
  );
  return node("figure", {}, drawn, node("figcaption", {}, caption));
}
