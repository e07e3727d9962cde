// Talks to the server: reads classes, and sends steps one after the other.

const { base, pageKey } = document.querySelector(".review").dataset;

/** The server refused a request or did not answer. `final`: it would refuse it again. */
export class RequestError extends Error {
  constructor(message, final = false) {
    super(message);
    this.final = final;
  }
}

async function request(path, body) {
  const options = { headers: pageKey ? { "X-Veduta-Page": pageKey } : {} };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(base + path, options);
  } catch {
    throw new RequestError("the server does not answer. Start it again: it keeps all that was saved");
  }
  if (response.ok) return response.json();
  if (response.status === 403 && pageKey) {
    throw new RequestError("the server was started again. Open the address that it printed: it keeps all that was saved");
  }
  const text = await response.text();
  let reason = text;
  try {
    reason = JSON.parse(text).detail ?? text;
  } catch {
    // The text is not JSON, so it is the reason itself.
  }
  throw new RequestError(reason || `the server answered ${response.status}`, response.status < 500);
}

export const readClasses = () => request("api/classes");
export const readClass = (number) => request(`api/classes/${number}`);
export const finish = (stop) => request("api/finish", { stop });

export const photoUrl = (number, size) => `${base}photo/${size}/${number}`;

/** Return why the server cannot show a photo; an empty text if it can. */
export async function photoError(number) {
  try {
    const response = await fetch(photoUrl(number, "small"));
    return response.ok ? "" : (await response.json()).detail;
  } catch {
    return "the server does not answer";
  }
}

/** Steps that are not saved yet, in order. After an error they wait for `retry`. */
export class StepQueue {
  /** `onChange()`: the state has changed; `onRejected(reason)`: the server refused a step. */
  constructor(onChange, onRejected) {
    this.onChange = onChange;
    this.onRejected = onRejected;
    this.error = "";
    this.undoable = 0; // steps that can be undone, as the server last said
    this.queue = [];
    this.sending = false;
  }

  get pending() {
    return this.queue.length;
  }

  /** Save decisions as one step. */
  save(decisions) {
    this.queue.push({ path: "api/step", body: () => ({ decisions }), onAnswer: () => {} });
    this.send();
  }

  /** Undo the last step; `onAnswer` is called with what that changed. */
  undo(onAnswer) {
    this.queue.push({ path: "api/undo", body: () => ({ step: this.undoable }), onAnswer });
    this.send();
  }

  /** Wait until all is saved. */
  idle() {
    if (!this.queue.length) return Promise.resolve();
    return new Promise((resolve) => (this.whenIdle = resolve));
  }

  retry() {
    this.error = "";
    this.send();
  }

  async send() {
    if (this.sending || this.error) return this.onChange();
    this.sending = true;
    while (this.queue.length) {
      this.onChange();
      const { path, body, onAnswer } = this.queue[0];
      try {
        const answer = await request(path, body());
        this.undoable = answer.steps;
        this.queue.shift();
        onAnswer(answer);
      } catch (error) {
        if (!(error instanceof RequestError)) throw error;
        if (!error.final) {
          this.error = error.message;
          break;
        }
        this.queue.length = 0; // the later steps build on the refused one
        this.onRejected(error.message);
      }
    }
    this.sending = false;
    this.onChange();
    if (!this.queue.length && this.whenIdle) {
      this.whenIdle();
      this.whenIdle = null;
    }
  }
}
