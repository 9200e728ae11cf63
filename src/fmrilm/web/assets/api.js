// What the page says to its server, and how it follows a job.
const RETRIES = 5;

async function check(answer) {
  if (answer.ok) return answer;
  let detail = `the server says ${answer.status}`;
  try {
    const body = await answer.json();
    if (typeof body.detail === "string") detail = body.detail;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new Error(detail);
}

export async function get(path) {
  return (await check(await fetch(path))).json();
}

async function post(path, body) {
  const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  for (let left = RETRIES; ; left -= 1) {
    const answer = await fetch(path, request);
    if (answer.status !== 503 || left === 0) return check(answer);
    const seconds = Number(answer.headers.get("retry-after")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

export const start = async (path, body) => (await post(path, body)).json();

export const exportPage = async (scans) => (await post("/api/export", { scans })).blob();

export const forget = (scan) => fetch(`/api/scans/${scan}`, { method: "DELETE", keepalive: true });

export const cancel = (job) => fetch(`/api/jobs/${job}`, { method: "DELETE" });

/** Send files; `tell(share)` hears how far it is. The returned promise has `.abort()`. */
export function upload(run, files, tell) {
  let request = null;
  let isAborted = false;
  const form = new FormData();
  for (const file of files) form.append("scan", file, file.name);
  const send = (left, resolve, reject) => {
    request = new XMLHttpRequest();
    request.upload.onprogress = (event) => tell(event.lengthComputable ? event.loaded / event.total : null);
    request.onerror = () => reject(new Error("the server cannot be reached, or the file is too large"));
    request.onabort = () => reject(new Cancelled());
    request.onload = () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch (error) { if (!(error instanceof SyntaxError)) throw error; }
      if (request.status === 202) resolve(body);
      else if (request.status === 503 && left > 0) {
        const seconds = Number(request.getResponseHeader("retry-after")) || 1;
        setTimeout(() => (isAborted ? reject(new Cancelled()) : send(left - 1, resolve, reject)), 1000 * seconds);
      }
      else reject(new Error(typeof body.detail === "string" ? body.detail : `the server says ${request.status}`));
    };
    request.open("POST", `/api/scans?run=${run}`);
    request.send(form);
  };
  const sent = new Promise((resolve, reject) => send(RETRIES, resolve, reject));
  sent.abort = () => { isAborted = true; request.abort(); };
  return sent;
}

export class Cancelled extends Error {}

/** Hear all events of a job; resolves with the last one, rejects if it failed or was cancelled. */
export async function follow(job, onEvent) {
  const answer = await check(await fetch(`/api/jobs/${job}/events`));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the server stopped");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.type === "done") return event;
      if (event.type === "failed") throw new Error(event.detail);
      if (event.type === "cancelled") throw new Cancelled();
      onEvent(event);
    }
  }
}
