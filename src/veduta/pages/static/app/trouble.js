// What went wrong on a page, in words, with ways on.

import { Problem } from "./api.js";

const BUSY = 429;
const RETRY_SECONDS = 2; // where a busy server does not say

let repeating = 0;

/** Say no more of what went wrong. */
export function calm() {
  clearTimeout(repeating);
  document.getElementById("trouble").replaceChildren();
}

/**
 * Say what went wrong.
 * `again`: repeats what failed, or null. It is offered where the same request may succeed later.
 * `ways`: of {name, run}, that are offered else.
 */
export function complain(error, { again = null, ways = [] }) {
  calm();
  if (!(error instanceof Problem)) console.error(error);
  const words = document.createElement("p");
  words.textContent = error instanceof Problem ? error.message : "This page has a fault. Load it again.";
  const mayPass = error.status === 0 || error.status === BUSY || error.status >= 500;
  const offered = again && mayPass ? [{ name: "Try again", run: again }] : ways;
  const buttons = document.createElement("p");
  buttons.className = "buttons";
  for (const { name, run } of offered) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => run());
    buttons.append(button);
  }
  const box = document.createElement("div");
  box.className = "problem";
  box.append(words, buttons);
  document.getElementById("trouble").replaceChildren(box);
  if (again && error.status === BUSY) countDown(error.retryAfter ?? RETRY_SECONDS, words, again);
}

function countDown(seconds, words, again) {
  const first = words.textContent;
  const step = (left) => {
    if (left <= 0) return again();
    words.textContent = `${first} Trying again in ${left} s.`;
    repeating = setTimeout(() => step(left - 1), 1000);
  };
  step(seconds);
}
