// Requests to the service: the token, problems in words, coming back when it is busy, following a search.

import { byId } from "./dom.js";

const KEY = "kiago-token";
const TRIES = 5;
const LONGEST_WAIT_S = 20; // a longer one is told, not waited for
const SILENCE_MS = 20_000; // a stream says something every 15 s

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

let asking = null;

// One dialog for all requests that wait for the token. False: it was closed without one.
function askForToken(refused) {
  asking ??= new Promise((answered) => {
    const dialog = byId("token-dialog");
    const input = byId("token");
    const closed = () => {
      const given = dialog.returnValue === "use" ? input.value.trim() : "";
      if (given) sessionStorage.setItem(KEY, given);
      input.value = "";
      asking = null;
      answered(given !== "");
    };
    byId("token-refused").hidden = !refused;
    dialog.returnValue = "";
    dialog.addEventListener("close", closed, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function problemOf(answer) {
  let detail = `The service answers ${answer.status}.`;
  try {
    detail = (await answer.json()).detail ?? detail;
  } catch {
    // no problem details, such as those of a proxy
  }
  if (answer.status === 401) detail = "The service asks for an access token.";
  const after = Number(answer.headers.get("Retry-After"));
  return new Problem(answer.status, after ? `${detail} Try again in ${after} s.` : detail);
}

// The answer itself; `busy` is told how many seconds are waited for where the service is busy.
export async function request(path, { method = "GET", body, accept = "application/json", signal, busy } = {}) {
  for (let tried = 1; ; tried += 1) {
    const token = sessionStorage.getItem(KEY);
    const headers = { Accept: accept };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method, signal, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "The service can't be reached. Check the connection, then try again.");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      const renewed = sessionStorage.getItem(KEY) !== token; // by another request, meanwhile
      if (renewed || (await askForToken(token !== null))) continue;
      throw await problemOf(answer);
    }
    const after = Number(answer.headers.get("Retry-After"));
    const soon = (answer.status === 429 || answer.status === 503) && after > 0 && after <= LONGEST_WAIT_S;
    if (!soon || tried === TRIES) throw await problemOf(answer);
    busy?.(after);
    await pause(after);
  }
}

export const json = async (path, options) => (await request(path, options)).json();

// Problems that asking again does not solve.
const lasting = (error) => !(error instanceof Problem) || (error.status >= 400 && error.status < 429);

export const unfinished = (job) => job.state === "queued" || job.state === "running";

// Calls `heard(job)` until the search at `path` has ended. A stream that breaks is opened anew; one that stays silent,
// as behind a proxy that holds it back, gives way to asking. `lost` is called while the service can't be reached.
export async function follow(path, heard, lost, signal) {
  for (let streams = true; ; ) {
    try {
      if (streams) streams = await stream(`${path}/events`, heard, signal);
      const job = await json(path, { signal });
      heard(job);
      if (!unfinished(job)) return;
    } catch (error) {
      if (signal.aborted || lasting(error)) throw error;
      lost();
    }
    await pause(streams ? 1 : 3);
  }
}

// Reads one stream to its end. False: it was silent for too long.
async function stream(path, heard, signal) {
  const mine = new AbortController();
  let silent = false;
  let timer = 0;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      silent = true;
      mine.abort();
    }, SILENCE_MS);
  };
  signal.throwIfAborted();
  signal.addEventListener("abort", () => mine.abort(), { signal: mine.signal });
  alive();
  try {
    const answer = await request(path, { accept: "text/event-stream", signal: mine.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) break;
      alive();
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const data = block.split("\n").find((line) => line.startsWith("data:"));
        if (data) heard(JSON.parse(data.slice("data:".length)));
      }
    }
  } catch (error) {
    if (signal.aborted || (error instanceof Problem && lasting(error))) throw error;
  } finally {
    clearTimeout(timer);
    mine.abort();
  }
  return !silent;
}
