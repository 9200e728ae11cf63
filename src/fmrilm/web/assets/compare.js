// Two scans side by side.
import { get } from "./api.js";
import { byId, complain, h, percent, signed } from "./dom.js";
import { capital, connectivityFigure } from "./figures.js";

export function showPair(scans) {
  byId("compare").hidden = scans.length < 2;
  ["first", "second"].forEach((id, place) => {
    const menu = byId(id);
    const kept = menu.value;
    menu.replaceChildren(...scans.map((scan) => h("option", { value: scan.view.id }, scan.title)));
    const isThere = scans.some((scan) => scan.view.id === kept);
    menu.value = isThere ? kept : scans[Math.min(place, scans.length - 1)]?.view.id ?? "";
  });
  if (scans.length < 2) byId("compared").replaceChildren();
  else if (byId("first").value === byId("second").value) {
    byId("second").value = scans.findLast((scan) => scan.view.id !== byId("first").value).view.id;
  }
}

export async function compare(scans) {
  complain("");
  const [first, second] = ["first", "second"].map((id) => scans.find((scan) => scan.view.id === byId(id).value));
  if (!first || !second || first === second) {
    complain("Choose two different scans.");
    return;
  }
  try {
    const result = await get(`/api/compare?first=${first.view.id}&second=${second.view.id}`);
    const unlike = [first, second].filter((scan) => scan.view.drift?.is_unlike);
    byId("compared").replaceChildren(
      h("h3", {}, `${first.title} and ${second.title}`),
      ...unlike.map((scan) => h("p", { class: "notice" }, `${scan.title} is ${scan.view.drift.text}.`)),
      result.questions.length ? answers(result.questions, first, second) : h("p", { class: "soft" }, "Ask both scans the same question to see the answers side by side."),
      result.difference.length
        ? connectivityFigure(result.networks, result.difference, "Connectivity: first minus second", "where the first is above the second")
        : h("p", { class: "soft" }, "The scans were prepared for models with other networks: their connectivity cannot be compared."));
    byId("compared").focus();
  } catch (error) {
    complain(capital(error.message));
  }
}

function answers(questions, first, second) {
  const row = ({ question, first: a, second: b }) => h("tr", {},
    h("th", { scope: "row" }, question), h("td", {}, words(a)), h("td", {}, words(b)), h("td", {}, gap(a, b)));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Answers side by side" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Question", first.title, second.title, "First minus second"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, questions.map(row))));
}

function words(answer) {
  if (!answer) return "not asked";
  const best = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1])[0];
  return best ? `${answer.text} (${best[0]} ${percent(best[1])})` : answer.text;
}

function gap(a, b) {
  if (!a || !b) return "";
  if (a.value !== null && b.value !== null) return signed(a.value - b.value, 2);
  const [name] = Object.entries(a.probabilities).sort((x, y) => y[1] - x[1])[0] ?? [];
  if (name === undefined || b.probabilities[name] === undefined) return "";
  return `${name} ${signed(100 * (a.probabilities[name] - b.probabilities[name]), 1)} points`;
}
