// Marks the lines of a listing that are new in its milestone. Which ones these are is in
// `changes.js`, by file; a listing is found in there by its first line and its number of lines.
{
  const linesOf = (code) => code.textContent.replace(/\n$/, "").split("\n");

  const regionOf = (file, lines) =>
    file.regions.find((region) => region.lines === lines.length && region.first === lines[0].trim());

  const addLegend = (label, words) => {
    const legend = document.createElement("span");
    legend.className = "legend";
    legend.textContent = words;
    label.append(legend);
  };

  /** Draws a stripe beside the lines from `first` to `last`, counted from 0. */
  const addStripe = (pre, code, count, [first, last]) => {
    const style = getComputedStyle(code);
    const padding = parseFloat(style.paddingBlockStart);
    const text = code.getBoundingClientRect().height - padding - parseFloat(style.paddingBlockEnd);
    const top = code.getBoundingClientRect().top - pre.getBoundingClientRect().top + padding;
    const stripe = document.createElement("span");
    stripe.className = "stripe";
    stripe.setAttribute("aria-hidden", "true");
    stripe.style.insetBlockStart = `${top + (first * text) / count}px`;
    stripe.style.blockSize = `${((last - first + 1) * text) / count}px`;
    pre.append(stripe);
  };

  const draw = ({ pre, code, count, marks }) => {
    for (const old of pre.querySelectorAll(":scope > .stripe")) old.remove();
    for (const mark of marks) addStripe(pre, code, count, mark);
  };

  /** What is new in the listing below this label, or nothing. */
  const readListing = (label) => {
    const changes = typeof CHANGES === "undefined" ? {} : CHANGES;
    const file = changes[label.textContent.trim()];
    const code = label.nextElementSibling?.querySelector("code");
    if (!file || !code) return undefined;
    if (file.whole) {
      addLegend(label, file.whole);
      return undefined;
    }
    const lines = linesOf(code);
    const marks = regionOf(file, lines)?.marks ?? [];
    if (marks.length === 0) return undefined;
    addLegend(label, "│ new in this milestone");
    const pre = code.closest("pre");
    pre.classList.add("has-new");
    return { pre, code, count: lines.length, marks };
  };

  const listings = [...document.querySelectorAll("p.file")].map(readListing).filter(Boolean);
  const drawAll = () => listings.forEach(draw);
  drawAll();
  // Fonts that come late and narrow windows change the height of a line.
  document.fonts?.ready.then(drawAll);
  window.addEventListener("resize", drawAll);
}
