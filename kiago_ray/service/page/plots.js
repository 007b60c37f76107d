// Plots drawn here: points of the candidates, curves with a band. And those that the service drew.

import { request } from "./api.js";
import { node, svg, words } from "./dom.js";

const SIZE = { width: 420, height: 320, left: 52, right: 12, top: 14, bottom: 46 };

// The plots of a search that is no longer shown are let go.
let images = [];

export function drawPlots(into, rows, source) {
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
  for (const name of source.plots) {
    const image = node("img", { alt: captions[name] ?? name });
    into.append(node("figure", {}, image, node("figcaption", {}, ...words(captions[name] ?? name))));
    load(image, source.plot(name));
  }
}

const captions = {
  "tc_against_ef.png": "Predicted T_c against formation energy of every different formula.",
  "pareto.png": "Trusted T_c against formation energy; the front is what no other formula beats.",
  "search_against_oracle.png": "The best by the search's model and by the second opinion.",
  "trajectory.png": "T_c, formation energy and integer loss over the steps.",
  "gains.png": "What the searches gained.",
  "curves.png": "How T_c rose in the searches.",
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

function image(id, title, description, ...content) {
  return svg(
    "svg",
    { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img", "aria-labelledby": `${id}-title`, "aria-describedby": `${id}-desc` },
    svg("title", { id: `${id}-title` }, title),
    svg("desc", { id: `${id}-desc` }, description),
    ...content,
  );
}

// Both axes, each {from, to, title}: where a value stands, and what is drawn of them.
function axesOf(across, up) {
  const { width, height, left, right, top, bottom } = SIZE;
  const x = (value) => left + ((value - across.from) / (across.to - across.from)) * (width - left - right);
  const y = (value) => height - bottom - ((value - up.from) / (up.to - up.from)) * (height - top - bottom);
  const drawn = [
    ...ticks(across.from, across.to).flatMap((value) => [
      svg("line", { x1: x(value), x2: x(value), y1: top, y2: height - bottom, class: "rule" }),
      svg("text", { x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, label(value)),
    ]),
    ...ticks(up.from, up.to).flatMap((value) => [
      svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "rule" }),
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, label(value)),
    ]),
    svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, across.title),
    svg("text", { transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, up.title),
  ];
  return { x, y, drawn, top, foot: height - bottom };
}

// A curve over x with a band of one standard deviation and maybe a dashed one, {x, y, std, other}, and points of their
// own, {x, y, name, open}. What is null is left out; least: where the band ends. Answers the figure; `at(x)`, which moves a line
// to x; and `drag(moveTo)`, which calls `moveTo(x)` as the pointer is dragged over the plot.
export function curve(line, points, { id, x: xTitle, y: yTitle, caption, least = -Infinity }) {
  const held = line.filter((each) => each.y !== null);
  const others = line.filter((each) => each.other !== undefined && each.other !== null);
  const lower = (each) => Math.max(each.y - (each.std ?? 0), least);
  const alone = [...points.map((point) => point.y), ...others.map((each) => each.other)];
  const high = [...held.map((each) => each.y + (each.std ?? 0)), ...alone];
  const low = Math.min(0, ...held.map(lower), ...alone);
  const range = [line[0].x, line[line.length - 1].x, ...points.map((point) => point.x)];
  const [from, to] = [Math.min(...range), Math.max(...range)];
  const most = Math.max(...high, 0);
  const room = 0.05 * (most - low) || 1;
  const axes = axesOf({ from, to, title: xTitle }, { from: low === 0 ? 0 : low - room, to: most + room, title: yTitle });
  const { x, y } = axes;
  const path = (each, value) => `${x(each.x).toFixed(1)} ${y(value).toFixed(1)}`;
  const banded = held.filter((each) => each.std !== null);
  const band = [
    ...banded.map((each) => path(each, each.y + each.std)),
    ...banded.toReversed().map((each) => path(each, lower(each))),
  ];
  const cursor = svg("line", { y1: axes.top, y2: axes.foot, class: "cursor", visibility: "hidden" });
  const drawn = image(
    id,
    `${yTitle} against ${xTitle}`,
    `${caption} ${points.map((point) => `${point.name}: ${label(point.y)} at ${label(point.x)}`).join("; ")}`,
    ...axes.drawn,
    svg("line", { x1: x(from), x2: x(to), y1: y(0), y2: y(0), class: "zero" }),
    band.length ? svg("path", { class: "band", d: `M${band.join("L")}Z` }) : null,
    held.length ? svg("path", { class: "curve", d: `M${held.map((each) => path(each, each.y)).join("L")}` }) : null,
    others.length ? svg("path", { class: "other", d: `M${others.map((each) => path(each, each.other)).join("L")}` }) : null,
    ...points.map((point) =>
      svg("circle", { class: point.open ? "known open" : "known", cx: x(point.x), cy: y(point.y), r: 4 }, svg("title", {}, `${point.name}: ${label(point.y)}`)),
    ),
    cursor,
  );
  const at = (value) => {
    cursor.setAttribute("visibility", "visible");
    cursor.setAttribute("x1", x(value));
    cursor.setAttribute("x2", x(value));
  };
  const drag = (moveTo) => {
    const moved = (event) => {
      if (event.buttons !== 1) return;
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawn.getScreenCTM().inverse()).x;
      moveTo(from + ((place - x(from)) / (x(to) - x(from))) * (to - from));
    };
    drawn.classList.add("drag");
    drawn.addEventListener("pointerdown", moved);
    drawn.addEventListener("pointermove", moved);
  };
  return { figure: node("figure", {}, drawn, node("figcaption", {}, ...words(caption))), at, drag };
}

// Nothing where there are no points.
function scatter(points, { id, x: xTitle, y: yTitle, caption, diagonal = false }) {
  if (!points.length) return null;
  let xMost = Math.max(...points.map((point) => point.x)) * 1.05 || 1;
  let yMost = Math.max(...points.map((point) => point.y)) * 1.05 || 1;
  if (diagonal) xMost = yMost = Math.max(xMost, yMost);
  const axes = axesOf({ from: 0, to: xMost, title: xTitle }, { from: 0, to: yMost, title: yTitle });
  const { x, y } = axes;
  const passed = points.filter(({ row }) => row.passed).length;
  const far = points.filter(({ row }) => row.extrapolated).length;
  const drawn = image(
    id,
    `${yTitle} against ${xTitle}`,
    `${points.length} candidates: ${passed} passed, ${far} are far from anything known. ${caption}`,
    ...axes.drawn,
    ...(diagonal ? [svg("line", { x1: x(0), y1: y(0), x2: x(xMost), y2: y(yMost), class: "diagonal" })] : []),
    ...points.map((point) => mark(x(point.x), y(point.y), point)),
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
