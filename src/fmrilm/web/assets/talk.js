// The conversation about one scan: questions, streamed answers, where an answer comes from.
import { Cancelled, cancel, follow, start } from "./api.js";
import { announce, bar, byId, complain, h, percent, progressLine, signed } from "./dom.js";
import { capital } from "./figures.js";

const NOT_SURE = "not sure";

export function showQuestions(run, ask) {
  const all = run.tasks.length > 1 ? [h("button", { type: "button", onclick: () => ask(null) }, "All questions")] : [];
  byId("questions").replaceChildren(
    ...all, ...run.tasks.map((task) => h("button", { type: "button", onclick: () => ask(task.name, task.question) }, task.question)));
}

/** Ask about a scan; the turns appear as the answers come, the newest first. */
export async function ask(scan, question, title) {
  complain("");
  let job = null;
  let isCancelled = false;
  const line = progressLine("Waiting", () => { isCancelled = true; if (job) cancel(job); });
  const streamed = h("p", { class: "text free", "aria-busy": "true" });
  const pending = h("li", { class: "turn" }, h("h3", {}, title || question || "All questions"), streamed, line);
  scan.turns.prepend(pending);
  try {
    job = (await start(`/api/scans/${scan.view.id}/questions`, { question })).id;
    if (isCancelled) cancel(job);
    await follow(job, (event) => {
      if (event.type === "waiting") line.tell(null, event.ahead ? `Waiting behind ${event.ahead}` : "Asking the model");
      else if (event.type === "progress") line.tell(event.share || null, capital(event.text));
      else if (event.type === "text") streamed.append(event.piece);
      else if (event.type === "answer") {
        pending.before(turn(scan, event.answer));
        scan.answered += 1;
        announce(`${event.answer.question} ${spoken(event.answer)}`);
      }
    });
    pending.remove();
  } catch (error) {
    pending.remove();
    if (error instanceof Cancelled) announce("Cancelled");
    else complain(capital(error.message));
  }
}

function spoken(answer) {
  const share = answer.probabilities[answer.text];
  return share === undefined ? answer.text : `${answer.text}, ${percent(share)}`;
}

function turn(scan, answer) {
  const drift = scan.view.drift;
  const isUnlike = Boolean(drift && drift.is_unlike);
  const shares = Object.entries(answer.probabilities);
  const text = answer.text === NOT_SURE
    ? h("p", { class: "text unsure" }, "Not sure: no answer is probable enough")
    : h("p", { class: answer.task ? "text" : "text free" }, answer.text);
  return h("li", { class: isUnlike ? "turn unlike" : "turn" },
    h("h3", {}, answer.question),
    scan.view.synthetic ? h("span", { class: "chip synthetic" }, "SYNTHETIC") : null,
    text,
    answer.low === null ? null : h("p", { class: "soft" }, "In brackets: its 90% prediction interval."),
    answer.task ? null : claimsPart(answer.claims),
    shares.length ? h("ul", { class: "bars" }, shares.map(([name, share]) => bar(name, share, percent(share)))) : null,
    isUnlike ? h("p", { class: "notice" }, `Greyed: this scan is ${drift.text}.`) : null,
    h("p", { class: "worth" }, `What it is worth: ${answer.worth}`),
    answer.task ? originPart(scan, answer) : null);
}

// What a free answer claims of the scan's connectivity, beside what was measured in it.
function claimsPart(claims) {
  if (!claims.length) return h("p", { class: "soft" }, "Nothing in it can be checked against the scan's connectivity.");
  return h("ul", { class: "claims" }, claims.map(({ text, verdict, wrong }) =>
    h("li", { class: verdict }, h("strong", {}, `${verdict}: `), text, wrong.length ? ` (${wrong.join(", ")})` : "")));
}

function originPart(scan, answer) {
  const place = h("div", { class: "origin", hidden: true });
  const button = h("button", { type: "button", class: "link", "aria-expanded": "false" }, "Where it comes from");
  const best = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1])[0];
  button.addEventListener("click", async () => {
    button.disabled = true;
    let job = null;
    let isCancelled = false;
    const line = progressLine("Waiting", () => { isCancelled = true; if (job) cancel(job); });
    place.replaceChildren(line);
    place.hidden = false;
    button.setAttribute("aria-expanded", "true");
    try {
      job = (await start(`/api/scans/${scan.view.id}/origins`, { task: answer.task, answer: best ? best[0] : null })).id;
      if (isCancelled) cancel(job);
      const { origin } = await follow(job, (event) => {
        if (event.type === "progress") line.tell(event.share, capital(event.text));
      });
      place.replaceChildren(...originFigure(scan, origin));
      announce(`Attribution is ready. Most telling network: ${origin.networks.length ? origin.networks[0].name : "none"}`);
      button.remove();
    } catch (error) {
      place.hidden = true;
      button.setAttribute("aria-expanded", "false");
      button.disabled = false;
      button.focus();
      if (error instanceof Cancelled) announce("Cancelled");
      else complain(capital(error.message));
    }
  });
  return h("div", {}, button, place);
}

function originFigure(scan, origin) {
  const rows = (items, largest) => items.map(({ name, share }) =>
    bar(name, Math.abs(share) / largest / 2, signed(share), share < 0 ? "minus" : "plus"));
  const largest = Math.max(...origin.networks.map(({ share }) => Math.abs(share)), 1e-12);
  const source = (theme) => `/api/scans/${scan.view.id}/origins/${encodeURIComponent(origin.task)}/brain.png?theme=${theme}`;
  return [
    h("h4", {}, `Where it comes from: ${origin.explains}`),
    h("ul", { class: "bars both" }, rows(origin.networks, largest)),
    origin.has_brain ? h("picture", {},
      h("source", { media: "(prefers-color-scheme: dark)", srcset: source("dark") }),
      h("img", { class: "brain", src: source("light"), alt: "The most telling regions on a glass brain: red for, blue against" })) : null,
    h("p", { class: "soft" }, `Integrated gradients from ${origin.reference}: the shares add up to the change of ${signed(origin.change)} in the ${origin.explains}, up to ${percent(origin.error)}. They say what the model uses, not what causes anything.`),
    h("details", {}, h("summary", {}, "The most telling regions"),
      h("ul", { class: "bars both" }, rows(
        origin.regions.map((region) => ({ name: region.network ? `${region.name} (${region.network})` : region.name, share: region.share })),
        Math.max(...origin.regions.map(({ share }) => Math.abs(share)), 1e-12)))),
  ].filter(Boolean);
}
