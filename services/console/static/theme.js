// Before anything is drawn: the theme that was chosen here, or the system's.
"use strict";
{
  let chosen = "";
  try {
    chosen = localStorage.getItem("warren-theme") ?? "";
  } catch {
    // The system's, then.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
