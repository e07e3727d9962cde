// Talks to the server: reads, and steps that are sent one after the other.

const page = document.body.dataset;

/** The server, or its absence, says no. `final`: it will say so again. */
export class Refused extends Error {
  constructor(message, final = false) {
    super(message);
    this.final = final;
  }
}

async function request(path, body) {
  const options = { headers: { "X-Veduta-Page": page.page } };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused("the server does not answer. Start `veduta review` again: all that was saved is there");
  }
  if (answer.ok) return answer.json();
  if (answer.status === 403) {
    throw new Refused("the server was started anew. Open the address that it printed: all that was saved is there");
  }
  const text = await answer.text();
  let why = text;
  try {
    why = JSON.parse(text).error ?? text;
  } catch {
    // Not JSON: the text itself says why.
  }
  throw new Refused(why || `the server answered ${answer.status}`, answer.status < 500);
}

export const readClasses = () => request("api/classes");
export const readClass = (number) => request(`api/classes/${number}`);
export const finish = (stop) => request("api/finish", { stop });

export const photoUrl = (number, size) => `photo/${size}/${number}`;

/** Return why the server cannot show a photo. */
export async function whyLost(number) {
  try {
    const answer = await fetch(photoUrl(number, "small"));
    return answer.ok ? "" : (await answer.json()).error;
  } catch {
    return "the server does not answer";
  }
}

/** Steps on their way. What one of them fails with holds up those behind it until `retry`. */
export class Outbox {
  constructor(onChange, onRejected) {
    this.onChange = onChange;
    this.onRejected = onRejected;
    this.trouble = "";
    this.steps = 0; // that can be undone, as the server last said
    this.waiting = [];
    this.busy = false;
  }

  get pending() {
    return this.waiting.length;
  }

  /** Send marks as one step. */
  step(marks) {
    this.waiting.push({ path: "api/step", body: () => ({ marks }), done: () => {} });
    this.run();
  }

  /** Take the last step back; `done` is told what that changed. */
  undo(done) {
    this.waiting.push({ path: "api/undo", body: () => ({ step: this.steps }), done });
    this.run();
  }

  /** Wait until all is saved. */
  idle() {
    if (!this.waiting.length) return Promise.resolve();
    return new Promise((resolve) => (this.whenIdle = resolve));
  }

  retry() {
    this.trouble = "";
    this.run();
  }

  async run() {
    if (this.busy || this.trouble) return this.onChange();
    this.busy = true;
    while (this.waiting.length) {
      this.onChange();
      const { path, body, done } = this.waiting[0];
      try {
        const answer = await request(path, body());
        this.steps = answer.steps;
        this.waiting.shift();
        done(answer);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (!error.final) {
          this.trouble = error.message;
          break;
        }
        this.waiting.length = 0; // what stands behind it was meant to follow it
        this.onRejected(error.message);
      }
    }
    this.busy = false;
    this.onChange();
    if (!this.waiting.length && this.whenIdle) {
      this.whenIdle();
      this.whenIdle = null;
    }
  }
}
