// Asking the daemon, and the stream by which it tells what has changed. Both need the cookie and the key.

const SILENCE_MS = 25_000;
const PAUSES_MS = [500, 1_000, 2_000, 3_000, 5_000];

export class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

function headers() {
  let key = "";
  try {
    key = localStorage.getItem("warren-key") ?? "";
  } catch {
    // Then the daemon says what to do.
  }
  return { "x-warren-key": key };
}

export async function get(address) {
  return unwrapped(await reached(fetch(`/api/${address}`, { headers: headers(), cache: "no-store" })));
}

export async function act(verb, fields) {
  const request = { method: "POST", headers: headers(), body: JSON.stringify(fields), cache: "no-store" };
  return unwrapped(await reached(fetch(`/api/do/${verb}`, request)));
}

async function reached(asked) {
  try {
    return await asked;
  } catch {
    throw new Refused("unreachable", "The daemon does not answer. Nothing was done; try again when it is back.");
  }
}

async function unwrapped(answer) {
  let found = null;
  try {
    found = await answer.json();
  } catch {
    throw new Refused("unreachable", `The daemon's answer cannot be read (${answer.status}). Load the page again.`);
  }
  if (found.error) throw new Refused(found.error.code, found.error.message);
  return found.ok;
}

// Server-sent events over `fetch`: an EventSource cannot send the key. `tell(name, data)`; `line(state, detail)` with
// state `open`, `lost` (tried again in `detail` seconds) or `locked`.
export class Stream {
  constructor(tell, line) {
    this.tell = tell;
    this.line = line;
    this.stop = new AbortController();
  }

  // Ends what was open before.
  open(job) {
    this.close();
    this.stop = new AbortController();
    this.#follow(job, this.stop.signal);
  }

  close() {
    this.stop.abort();
  }

  async #follow(job, over) {
    for (let failures = 0; !over.aborted; failures += 1) {
      let locked = false;
      try {
        locked = await this.#read(job, over, () => {
          failures = 0;
          this.line("open");
        });
      } catch {
        // Lost, or closed by us.
      }
      if (over.aborted) return;
      const pause = PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)];
      this.line(locked ? "locked" : "lost", Math.round(pause / 1000) || 1);
      await new Promise((done) => setTimeout(done, pause));
    }
  }

  // Gives whether the daemon wants somebody to enter; throws when the line is lost.
  async #read(job, over, opened) {
    const silent = new AbortController();
    let timer = setTimeout(() => silent.abort(), SILENCE_MS);
    try {
      const request = { headers: headers(), cache: "no-store", signal: AbortSignal.any([over, silent.signal]) };
      const answer = await fetch(`/api/stream?job=${encodeURIComponent(job)}`, request);
      if (!answer.ok) return answer.status === 401;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let first = true; ; first = false) {
        const { done, value } = await reader.read();
        if (done) return false;
        if (first) opened();
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(), SILENCE_MS);
        text = this.#take(text + value);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  // Tells whole events, gives what is left.
  #take(text) {
    const parts = text.split("\n\n");
    for (const part of parts.slice(0, -1)) {
      const fields = Object.fromEntries(part.split("\n").map((row) => [row.split(": ", 1)[0], row.slice(row.indexOf(": ") + 2)]));
      this.tell(fields.event, JSON.parse(fields.data));
    }
    return parts.at(-1);
  }
}
