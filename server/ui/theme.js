// Light or dark, before the first paint. Without a choice the system's preference holds.
(() => {
  try {
    const chosen = localStorage.getItem("tensorpow-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden; then the system's preference holds.
  }
})();
