// The page: which model, which scans are open, and what happens when something is pressed.
import { exportPage, forget, get } from "./api.js";
import { onCohorts, onFiles, prepare } from "./choose.js";
import { compare, showPair } from "./compare.js";
import { byId, complain, h } from "./dom.js";
import { capital, carpetFigure, connectivityFigure, coverageFigure, driftFigure } from "./figures.js";
import { ask, showQuestions } from "./talk.js";

const state = { about: null, run: 0, scans: [], current: null };

const isNarrow = window.matchMedia("(max-width: 880px)"); // there the conversation follows below

const runOf = (scan) => state.about.runs[scan.view.run];

async function take(source, name) {
  const view = await prepare(source, state.run);
  if (!view) return;
  const isOneOfMany = state.about.runs.length > 1;
  const scan = {
    view, source, name, answered: 0, turns: h("ol", { class: "turns", reversed: true }),
    title: isOneOfMany ? `${name} · ${state.about.runs[view.run].name}` : name,
  };
  state.scans.push(scan);
  show(scan);
  byId("view").focus({ preventScroll: true });
}

function show(scan) {
  state.current = scan;
  showHeld();
  showPair(state.scans);
  byId("composer").hidden = !scan;
  byId("hint").hidden = Boolean(scan);
  byId("export").disabled = !scan;
  byId("view").replaceChildren(...(scan ? viewOf(scan) : []));
  const turns = scan ? scan.turns : h("ol", { class: "turns" });
  turns.id = "turns";
  byId("turns").replaceWith(turns);
  if (scan) showQuestions(runOf(scan), (question, title) => ask(scan, question, title));
}

function showHeld() {
  const held = byId("held");
  held.hidden = state.scans.length === 0;
  held.replaceChildren(...state.scans.map((scan) => h("span", {},
    h("button", { type: "button", "aria-pressed": String(scan === state.current), title: scan.title, onclick: () => show(scan) }, scan.title),
    h("button", { type: "button", "aria-label": `Forget ${scan.title}`, onclick: () => drop(scan) }, "×"))));
}

function drop(scan) {
  forget(scan.view.id);
  state.scans = state.scans.filter((other) => other !== scan);
  show(scan === state.current ? state.scans.at(-1) ?? null : state.current);
  byId("scan-title").scrollIntoView({ block: "nearest" });
}

function viewOf(scan) {
  const { view } = scan;
  return [
    h("h3", {}, scan.name),
    h("p", { class: "soft" }, `Prepared like ${view.cohort}.`),
    view.notes.length ? h("ul", { class: "notes" }, view.notes.map((note) => h("li", {}, capital(note)))) : null,
    view.drift?.is_unlike ? h("p", { class: "notice" }, `This scan is ${view.drift.text}.`) : null,
    view.description ? h("section", { class: "measured" },
      h("h4", {}, "Measured in this scan"),
      h("p", {}, view.description),
      h("p", { class: "soft" }, "From the scan's own connectivity, compared with the training scans; not the model's words.")) : null,
    h("details", { open: !isNarrow.matches }, h("summary", {}, "Figures of the scan"),
      carpetFigure(view),
      driftFigure(view.drift),
      coverageFigure(view),
      connectivityFigure(view.networks, view.connectivity, "Connectivity of networks")),
  ].filter(Boolean);
}

function showRuns() {
  const menu = byId("run");
  menu.replaceChildren(...state.about.runs.map((run) =>
    h("option", { value: run.id }, `${run.name}${run.synthetic ? " (SYNTHETIC)" : ""}`)));
  menu.addEventListener("change", () => {
    state.run = Number(menu.value);
    showRun();
    if (state.current) take(state.current.source, state.current.name); // prepared for the other model
  });
  showRun();
}

function showRun() {
  byId("synthetic").hidden = !state.about.runs[state.run].synthetic;
}

async function save() {
  try {
    const page = await exportPage(state.scans.slice(-8).map((scan) => ({ id: scan.view.id, name: scan.name.slice(0, 200) })));
    const link = h("a", { href: URL.createObjectURL(page), download: "fmrilm-conversation.html" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    complain(capital(error.message));
  }
}

async function begin() {
  try {
    state.about = await get("/api/about");
  } catch (error) {
    complain(capital(error.message));
    return;
  }
  byId("most").textContent = `, up to ${state.about.max_upload_mb} MB`;
  showRuns();
  onFiles(state.about.max_upload_mb, take);
  onCohorts(state.about.cohorts, take);
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = byId("words").value.trim();
    if (!words || !state.current) return;
    byId("words").value = "";
    ask(state.current, words, words);
  });
  byId("pair").addEventListener("submit", (event) => { event.preventDefault(); compare(state.scans); });
  byId("export").addEventListener("click", save);
  window.addEventListener("pagehide", (event) => {
    if (!event.persisted) state.scans.forEach((scan) => forget(scan.view.id));
  });
}

begin();
