// Requests to the service: the token, problems in words, coming back when it is busy, streams of events.

const KEY = "kiago-token";
const TRIES = 5;

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

let asking = null;

// One dialog for all requests that wait for the token.
function askForToken() {
  asking ??= new Promise((given) => {
    const dialog = document.getElementById("token-dialog");
    const input = document.getElementById("token");
    dialog.addEventListener(
      "close",
      () => {
        sessionStorage.setItem(KEY, input.value.trim());
        input.value = "";
        asking = null;
        given();
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}

async function problemOf(answer) {
  try {
    return new Problem(answer.status, (await answer.json()).detail);
  } catch {
    return new Problem(answer.status, `The service answers ${answer.status}.`);
  }
}

// The answer itself; `busy` is told how many seconds are waited for where the service is busy.
export async function request(path, { method = "GET", body, accept = "application/json", signal, busy } = {}) {
  for (let tried = 1; ; tried += 1) {
    let answer;
    const content = body === undefined ? {} : { "Content-Type": "application/json" };
    try {
      answer = await fetch(path, {
        method,
        signal,
        headers: headers({ Accept: accept, ...content }),
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "The service can't be reached. Check the connection, then try again.");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      await askForToken();
      continue;
    }
    const after = Number(answer.headers.get("Retry-After"));
    if ((answer.status !== 429 && answer.status !== 503) || !after || after > 20 || tried === TRIES) {
      throw await problemOf(answer);
    }
    busy?.(after);
    await pause(after);
  }
}

export const json = async (path, options) => (await request(path, options)).json();

// Calls `heard(event, data)` until the last event. A stream that breaks or ends early is asked for again.
export async function events(path, heard, signal) {
  while (!signal.aborted) {
    try {
      const answer = await request(path, { accept: "text/event-stream", signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s)));
          if (fields.data === undefined) continue;
          heard(fields.event, JSON.parse(fields.data));
          if (fields.event === "end") return;
        }
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error instanceof Problem && error.status === 404) throw error;
    }
    await pause(1);
  }
}
