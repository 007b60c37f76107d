// Two plots of the candidates, drawn here, and those that the service drew.

import { request } from "./api.js";
import { node, svg, words } from "./dom.js";

const SIZE = { width: 420, height: 320, left: 52, right: 12, top: 14, bottom: 46 };

// The plots of a search that is no longer shown are let go.
let images = [];

export function drawPlots(into, rows, job) {
  images.forEach(URL.revokeObjectURL);
  images = [];
  const point = (x, y) =>
    rows.filter((row) => row[x] !== null && row[y] !== null).map((row) => ({ x: row[x], y: row[y], row }));
  const opinions = scatter(point("tc_k", "tc_oracle_k"), {
    id: "opinions",
    x: "Tc by the search's model (K)",
    y: "Tc, second opinion (K)",
    caption: "Below the diagonal the search is more hopeful than the second opinion.",
    diagonal: true,
  });
  const distances = scatter(point("nearest_distance", "trusted_tc_k"), {
    id: "distances",
    x: "L1 distance to the nearest known",
    y: "Trusted Tc (K)",
    caption: "Left are the ones that are close to something measured.",
  });
  into.replaceChildren(...[opinions, distances].filter(Boolean));
  for (const name of job.plots) {
    const image = node("img", { alt: captions[name] ?? name });
    into.append(node("figure", {}, image, node("figcaption", {}, ...words(captions[name] ?? name))));
    load(image, `v1/searches/${encodeURIComponent(job.id)}/plots/${encodeURIComponent(name)}`);
  }
}

const captions = {
  "tc_against_ef.png": "Predicted T_c against formation energy of every different formula.",
  "pareto.png": "Trusted T_c against formation energy; the front is what no other formula beats.",
  "search_against_oracle.png": "The best by the search's model and by the second opinion.",
  "trajectory.png": "T_c, formation energy and integer loss over the steps.",
  "section.png": "Energy above the hull from the base to the first proposal, and what falls apart into what.",
};

async function load(image, path) {
  try {
    const answer = await request(path, { accept: "image/png" });
    image.src = URL.createObjectURL(await answer.blob());
    images.push(image.src);
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

const label = (value) => String(Number(value.toPrecision(6)));

// Nothing where there are no points.
function scatter(points, { id, x: xTitle, y: yTitle, caption, diagonal = false }) {
  if (!points.length) return null;
  const { width, height, left, right, top, bottom } = SIZE;
  let xMost = Math.max(...points.map((point) => point.x)) * 1.05 || 1;
  let yMost = Math.max(...points.map((point) => point.y)) * 1.05 || 1;
  if (diagonal) xMost = yMost = Math.max(xMost, yMost);
  const x = (value) => left + (value / xMost) * (width - left - right);
  const y = (value) => height - bottom - (value / yMost) * (height - top - bottom);
  const passed = points.filter(({ row }) => row.passed).length;
  const far = points.filter(({ row }) => row.extrapolated).length;
  const drawn = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": `${id}-title`, "aria-describedby": `${id}-desc` },
    svg("title", { id: `${id}-title` }, `${yTitle} against ${xTitle}`),
    svg("desc", { id: `${id}-desc` }, `${points.length} candidates: ${passed} passed, ${far} are far from anything known. ${caption}`),
    ...ticks(0, xMost).flatMap((value) => [
      svg("line", { x1: x(value), x2: x(value), y1: top, y2: height - bottom, class: "rule" }),
      svg("text", { x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, label(value)),
    ]),
    ...ticks(0, yMost).flatMap((value) => [
      svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "rule" }),
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, label(value)),
    ]),
    ...(diagonal ? [svg("line", { x1: x(0), y1: y(0), x2: x(xMost), y2: y(yMost), class: "diagonal" })] : []),
    ...points.map((point) => mark(x(point.x), y(point.y), point)),
    svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xTitle),
    svg("text", { transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yTitle),
  );
  const legend = " Filled: passed every screen; rings: did not; crosses: far from anything known.";
  return node("figure", {}, drawn, node("figcaption", {}, caption + legend));
}

function mark(x, y, point) {
  const title = svg("title", {}, `${point.row.formula}: ${point.x.toFixed(2)}, ${point.y.toFixed(1)}`);
  if (point.row.extrapolated) {
    return svg("path", { class: "mark", d: `M${x - 3.5} ${y - 3.5}l7 7m0 -7l-7 7` }, title);
  }
  return svg("circle", { class: point.row.passed ? "mark passed" : "mark", cx: x, cy: y, r: 3.5 }, title);
}
