// Classic and in the head: the colours are right before anything is painted.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("theme");
    } catch {
      // storage is switched off: the system's theme it is
    }
    document.documentElement.dataset.theme = chosen ?? (system.matches ? "dark" : "light");
  };
  apply();
  system.addEventListener("change", apply);
  // the page shows itself once it speaks the visitor's language; should the modules not load, it shows itself anyway
  document.documentElement.classList.add("starting");
  setTimeout(() => document.documentElement.classList.remove("starting"), 2000);
})();
