// Questions before something is done that cannot be undone. The browser's own dialog keeps the keyboard inside.

import { h } from "./dom.js";

// Says what went wrong where there was no question.
export function told(text) {
  confirmed({ title: "That was not done", text: [text], button: "Close", single: true }, () => {});
}

// `ask`: {title, text, reason: label or null, needed, button, danger, single: no way back}; `done(reason)` may throw what is to be said.
export function confirmed(ask, done) {
  const field = ask.reason ? h("textarea", { id: "reason", rows: "3", maxlength: "500", required: ask.needed }) : null;
  const fault = h("p", { class: "fault", role: "alert" });
  const act = h("button", { type: "submit", class: ask.danger ? "danger" : "primary" }, ask.button);
  const back = h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Back");
  const form = h(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        act.disabled = true;
        fault.textContent = "";
        try {
          await done(field ? field.value.trim() : "");
          dialog.close();
        } catch (error) {
          fault.textContent = error.message;
        } finally {
          act.disabled = false;
        }
      },
    },
    h("h2", { id: "question" }, ask.title),
    ask.text.map((one) => h("p", {}, one)),
    field ? [h("label", { for: "reason" }, ask.reason), field] : null,
    fault,
    h("div", { class: "buttons" }, act, ask.single ? null : back),
  );
  const dialog = h("dialog", { "aria-labelledby": "question" }, form);
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
    else document.getElementById("main").focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  (field ?? (ask.single ? act : back)).focus();
}
