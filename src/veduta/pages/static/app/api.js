// Addresses of the service, and requests to its API.

const { root, index } = document.documentElement.dataset;

export { root, index };

/** What this browser may do: "search", "edit" or "admin". */
export const scope = document.documentElement.dataset.scope;

/** The service refused a request or did not answer. */
export class Problem extends Error {
  /** `status`: of the answer, 0 without one; `retryAfter`: seconds, or null. */
  constructor(message, status = 0, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const isDefault = "default" in document.documentElement.dataset;

/**
 * Return an address below the root, with the index that is shown.
 * `values`: by name. Null is left out, of an array each item is given.
 */
export function address(path, values = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ index: isDefault ? null : index, ...values })) {
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined) query.append(name, one);
    }
  }
  return query.size ? `${root}${path}?${query}` : root + path;
}

/** Return an address of the API. */
export const api = (path, values) => address(`/api/v1${path}`, values);

/** Return the answer to a request, or throw a Problem in the words of the service. */
export async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    location.assign(signInAddress());
    throw new Problem("This server needs a key.", 401);
  }
  let detail = `The server answered ${response.status}.`;
  if (response.headers.get("content-type")?.includes("json")) detail = (await response.json()).detail ?? detail;
  throw new Problem(detail, response.status, Number(response.headers.get("retry-after")) || null);
}

/** Return the JSON of an answer. `body`: sent as JSON. */
export async function askJson(url, { body, ...options } = {}) {
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json", ...options.headers };
    options.body = JSON.stringify(body);
  }
  const response = await ask(url, options);
  return response.status === 204 ? null : response.json();
}

/** Yield the server-sent events of an answer: {name, data}. */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const fields = new Map(part.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.has("data")) yield { name: fields.get("event"), data: JSON.parse(fields.get("data")) };
    }
  }
}

/** Where a browser without a key signs in, to come back to this page. */
export function signInAddress() {
  const here = location.pathname.slice(root.length) + location.search;
  return `${root}/sign-in?${new URLSearchParams({ next: here })}`;
}
