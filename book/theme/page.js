// What every page gets: a link that skips the sidebar, boxes that know what they are, and what mdBook
// leaves out for people who use the keyboard.
{
  const BOXES = {
    "You can stop here": "stop",
    "Break it": "break",
    "In Node": "node",
    Security: "security",
  };

  const addSkipLink = () => {
    const content = document.getElementById("mdbook-content");
    if (!content) return;
    content.tabIndex = -1;
    const link = document.createElement("a");
    link.className = "skip-link";
    link.href = "#mdbook-content";
    link.textContent = "Skip to the text";
    document.body.prepend(link);
  };

  const nameBoxes = () => {
    for (const box of document.querySelectorAll(".blockquote-tag")) {
      const name = box.querySelector(":scope > p:not(.blockquote-tag-title) > strong:first-child");
      const words = name?.textContent.trim().replace(/[.:]$/, "") ?? "";
      const key = Object.keys(BOXES).find((known) => words.startsWith(known));
      if (!key) continue;
      box.dataset.box = BOXES[key];
      name.classList.add("box-name");
    }
  };

  /** A listing that is wider than the page can be scrolled with the arrow keys. */
  const makeScrollable = () => {
    for (const code of document.querySelectorAll("pre > code, .table-wrapper")) {
      if (code.scrollWidth > code.clientWidth) code.tabIndex = 0;
      else code.removeAttribute("tabindex");
    }
  };

  /** mdBook's sidebar button is a label, which the Tab key passes by. */
  const makeButton = () => {
    const toggle = document.getElementById("mdbook-sidebar-toggle");
    if (!toggle) return;
    toggle.setAttribute("role", "button");
    toggle.tabIndex = 0;
    toggle.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle.click();
    });
  };

  addSkipLink();
  nameBoxes();
  makeButton();
  makeScrollable();
  document.fonts?.ready.then(makeScrollable);
  window.addEventListener("resize", makeScrollable);
}
