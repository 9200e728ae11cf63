// How a scan is given: dropped, chosen as a file, or picked from a cohort.
import { Cancelled, cancel, follow, get, start, upload } from "./api.js";
import { announce, byId, complain, h, progressLine } from "./dom.js";
import { capital } from "./figures.js";

/** Prepare a scan for a run; resolves with its view, or null if it was cancelled or refused. */
export async function prepare(source, run) {
  complain("");
  let job = null;
  let sending = null;
  let isCancelled = false;
  const place = byId("preparing");
  const line = progressLine(source.files ? "Sending the file" : "Reading the scan", () => {
    isCancelled = true;
    if (sending) sending.abort();
    if (job) cancel(job);
  });
  place.replaceChildren(line);
  place.hidden = false;
  announce("Preparing the scan");
  try {
    if (source.files) {
      sending = upload(run, source.files, (share) => line.tell(share === null ? null : share / 2));
      job = (await sending).id;
      sending = null;
    } else {
      job = (await start("/api/scans/choose", { run, cohort: source.cohort, row: source.row })).id;
    }
    if (isCancelled) cancel(job);
    const { scan } = await follow(job, (event) => {
      if (event.type === "waiting" && event.ahead) line.tell(null, `Waiting behind ${event.ahead}`);
      if (event.type === "progress") line.tell(0.5 + event.share / 2, capital(event.text));
    });
    announce("The scan is ready");
    return scan;
  } catch (error) {
    if (error instanceof Cancelled) announce("Cancelled");
    else complain(capital(error.message));
    return null;
  } finally {
    place.hidden = true;
    place.replaceChildren();
  }
}

export function onFiles(mostMb, take) {
  const give = (list) => {
    const files = [...list];
    if (!files.length) return;
    const size = files.reduce((sum, file) => sum + file.size, 0);
    if (size > mostMb * 2 ** 20) complain(`The file is larger than ${mostMb} MB.`);
    else take({ files }, title(files));
  };
  const input = byId("file");
  input.addEventListener("change", () => { give(input.files); input.value = ""; });
  const drop = byId("drop");
  const mark = (event, isOver) => { event.preventDefault(); drop.classList.toggle("over", isOver); };
  document.addEventListener("dragover", (event) => mark(event, true));
  document.addEventListener("dragleave", (event) => { if (event.relatedTarget === null) mark(event, false); });
  document.addEventListener("drop", (event) => { mark(event, false); give(event.dataTransfer.files); });
}

const title = (files) => (files.find((file) => !/\.json$|confounds_/.test(file.name)) ?? files[0]).name;

export function onCohorts(cohorts, take) {
  byId("pick").hidden = cohorts.length === 0;
  if (!cohorts.length) return;
  byId("cohort").replaceChildren(...cohorts.map((cohort) =>
    h("option", { value: cohort.id }, `${cohort.name}${cohort.synthetic ? " (SYNTHETIC)" : ""}`)));
  let shown = [];
  let asked = 0;
  const list = async () => {
    const turn = (asked += 1);
    const search = encodeURIComponent(byId("search").value);
    try {
      const page = await get(`/api/cohorts/${byId("cohort").value}/scans?search=${search}`);
      if (turn !== asked) return;
      shown = page.scans;
      byId("list").replaceChildren(...shown.map((row, place) =>
        h("option", { value: place, selected: place === 0 }, `${row.subject} · ${row.session}${row.split ? ` · ${row.split}` : ""}`)));
      byId("listed").textContent = page.total > shown.length ? `${shown.length} of ${page.total}` : `${page.total}`;
    } catch (error) {
      complain(capital(error.message));
    }
  };
  const open = () => {
    const row = shown[Number(byId("list").value)];
    if (row) take({ cohort: Number(byId("cohort").value), row: row.row }, `${row.subject} ${row.session}`);
  };
  byId("cohort").addEventListener("change", list);
  byId("search").addEventListener("input", list);
  byId("list").addEventListener("dblclick", open);
  byId("pick").addEventListener("submit", (event) => { event.preventDefault(); open(); });
  list();
}
