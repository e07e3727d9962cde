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

/** Return an address below the root, with the index that is shown. `values` of null are left out. */
export function address(path, values = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ index, ...values })) {
    if (value !== null && value !== undefined) query.append(name, value);
  }
  return `${root}${path}?${query}`;
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

/** Where a browser without a key signs in, to come back to this page. */
export function signInAddress() {
  const here = location.pathname.slice(root.length) + location.search;
  return `${root}/sign-in?${new URLSearchParams({ next: here })}`;
}
