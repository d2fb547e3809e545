// The key stays in this origin's own storage, which no other port of the host can read; the link is left behind.
"use strict";
try {
  localStorage.setItem("warren-key", document.querySelector("meta[name=warren-key]").content);
  location.replace("/");
} catch {
  document.getElementById("note").textContent =
    "This browser keeps nothing for this address. Allow it to store data, and ask for a new link with `warren console`.";
}
