// Short messages at the bottom of a page, which screen readers speak.

const SHOWN_MS = 8000;

/** Show a message. `action`: {name, run} of a button in it, such as an undo. */
export function say(text, action = null) {
  const message = document.createElement("div");
  message.className = "message";
  const words = document.createElement("span");
  words.textContent = text;
  message.append(words);
  if (action) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = action.name;
    button.addEventListener("click", () => {
      message.remove();
      action.run();
    });
    message.append(button);
  }
  const messages = document.getElementById("messages");
  const place = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if (messages.parentElement !== place) place.append(messages); // a dialog hides what is outside
  messages.replaceChildren(message);
  // A message with a button stays while the button may be reached.
  const leave = () => (message.matches(":hover, :focus-within") ? setTimeout(leave, SHOWN_MS) : message.remove());
  setTimeout(leave, SHOWN_MS);
}
