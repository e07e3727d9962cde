// What every page does: menus that close, dialogs that close, and requests of htmx that fail.

import { say } from "./messages.js";
import { forgetAll } from "./uploads.js";

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const dialog = event.target.closest("dialog");
  if (dialog && (event.target === dialog || event.target.closest("[data-close]"))) dialog.close();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("htmx:sendError", () => say("The server does not answer. Is it still running?"));

document.querySelector(".sign-out")?.addEventListener("submit", () => forgetAll());
