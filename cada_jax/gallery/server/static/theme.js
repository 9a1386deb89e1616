// Runs before the page is drawn, so that a chosen scheme does not flash.
(function () {
  "use strict";
  try {
    const chosen = localStorage.getItem("cada-theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is switched off: the system's scheme holds.
  }
})();
