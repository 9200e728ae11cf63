// What is shown of a scan: coverage, carpet plot, connectivity of networks, drift.
import { bar, h, signed, svg } from "./dom.js";

const SIDE = 240; // pixels of a small matrix; larger ones have cells of 30
const STRONG = 1.0; // Fisher z of the darkest colour

export function driftFigure(drift) {
  if (!drift) return h("p", { class: "soft" }, "This model has no drift meter: it was trained on too few scans.");
  const rows = drift.respects.map(({ name, ratio }) => {
    const beyond = ratio === null || ratio > 1;
    const amount = ratio === null ? "no measure" : `${ratio.toFixed(2)}${beyond ? " beyond" : ""}`;
    return bar(name, ratio === null ? 1 : ratio / 2, amount, "", beyond ? "beyond" : "");
  });
  return h("figure", {},
    h("h4", {}, "Drift: how unlike the training scans"),
    h("ul", { class: "bars meter" }, rows),
    h("figcaption", {}, `The mark is the limit, 1. ${capital(drift.text)}.`));
}

export function coverageFigure(view) {
  const rows = view.coverage.map(({ network, regions, usable }) =>
    bar(network, usable / regions, `${usable} of ${regions}`));
  const absent = view.n_absent
    ? `Absent: ${view.absent.join(", ")}${view.n_absent > view.absent.length ? ` and ${view.n_absent - view.absent.length} more` : ""}.`
    : "All regions have a signal.";
  return h("figure", {}, h("h4", {}, "Coverage"), h("ul", { class: "bars" }, rows), h("figcaption", {}, absent));
}

export function carpetFigure(view) {
  const [regions, points] = view.shape;
  const labels = view.coverage.map(({ network, regions: count }) => {
    const label = h("li", {}, network);
    label.style.flex = `${count} 1 0`;
    return label;
  });
  const rest = regions - view.coverage.reduce((sum, { regions: count }) => sum + count, 0);
  if (rest > 0) {
    const label = h("li", {}, "no network");
    label.style.flex = `${rest} 1 0`;
    labels.push(label);
  }
  return h("figure", {},
    h("h4", {}, "Carpet plot"),
    h("div", { class: "carpet" },
      h("ul", { "aria-hidden": "true" }, labels),
      h("img", { src: `/api/scans/${view.id}/carpet.png`, alt: `Signal of ${regions} regions, sorted by network, over ${points} time points` })),
    h("figcaption", {}, `${regions} regions over ${points} time points, each standardised.`));
}

export function connectivityFigure(names, matrix, title, meaning = "above zero") {
  if (!names.length || !matrix.length) return h("p", { class: "soft" }, "The atlas has no networks.");
  const left = 12 + 6.4 * Math.max(...names.map((name) => name.length));
  const cell = Math.max(30, Math.min(56, SIDE / names.length));
  const size = names.length * cell;
  const [width, height] = [left + size, size + left * 0.75];
  const picture = svg("svg", {
    class: "matrix", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": `${title}; the numbers are in the table below it`,
  });
  names.forEach((name, row) => {
    picture.append(svg("text", { x: left - 7, y: (row + 0.5) * cell + 4, "text-anchor": "end" }, name));
    const x = left + (row + 0.5) * cell + 3;
    picture.append(svg("text", { x, y: size + 12, "text-anchor": "end", transform: `rotate(-45 ${x} ${size + 12})` }, name));
    matrix[row].forEach((value, column) => {
      const kind = value === null ? "none" : value < 0 ? "minus" : "plus";
      picture.append(svg("rect", {
        class: `cell ${kind}`, x: left + column * cell, y: row * cell, width: cell, height: cell,
        "fill-opacity": value === null ? 1 : Math.min(1, Math.abs(value) / STRONG),
      }, svg("title", {}, `${name} and ${names[column]}: ${value === null ? "no measure" : signed(value, 2)}`)));
    });
  });
  return h("figure", {},
    h("h4", {}, title), picture,
    h("figcaption", {}, `Mean Fisher z; orange ${meaning}, blue below, full colour at 1.`),
    h("details", {}, h("summary", {}, "As a table"), table(names, matrix)));
}

function table(names, matrix) {
  const cell = (value) => h("td", { class: "number" }, value === null ? "–" : signed(value, 2));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Connectivity as a table" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "Network"), names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, names.map((name, row) => h("tr", {}, h("th", { scope: "row" }, name), matrix[row].map(cell))))));
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
