() => {
  const faults = [];
  const shown = element => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && element.getClientRects().length > 0;
  const where = element => `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ""}${element.className && typeof element.className === "string" ? `.${element.className.trim().replace(/\s+/g, ".")}` : ""} "${(element.textContent || "").trim().slice(0, 30)}"`;

  const wide = document.documentElement;
  if (wide.scrollWidth > wide.clientWidth) {
    const guilty = [...document.querySelectorAll("body *")].filter(one => shown(one) && one.getBoundingClientRect().right > wide.clientWidth + 1 && !one.parentElement.closest("nav, .strip, .scroller, .scrolls"));
    faults.push(`scrolls sideways by ${wide.scrollWidth - wide.clientWidth} px: ${guilty.slice(0, 3).map(where).join(", ")}`);
  }
  if (!wide.lang) faults.push("the page names no language");
  if (document.querySelectorAll("h1").length !== 1) faults.push(`${document.querySelectorAll("h1").length} main headings`);
  if (!document.querySelector("main") || !document.querySelector("nav[aria-label]")) faults.push("landmarks are missing");

  const named = element => element.getAttribute("aria-label") || element.title || element.labels?.length || element.textContent.trim() || element.querySelector?.("[alt]:not([alt=''])");
  for (const control of document.querySelectorAll("button, a[href], input, select, summary, [role=slider], [role=img], canvas, svg[role]"))
    if (shown(control) && !named(control)) faults.push(`no name: ${where(control)}`);
  for (const picture of document.images) if (!picture.hasAttribute("alt")) faults.push(`no alternative text: ${picture.src.slice(0, 60)}`);
  for (const one of document.querySelectorAll("[tabindex]")) if (one.tabIndex > 0) faults.push(`out of the order of reading: ${where(one)}`);
  const ids = [...document.querySelectorAll("[id]")].map(one => one.id);
  for (const id of new Set(ids.filter((id, place) => ids.indexOf(id) !== place))) faults.push(`the id ${id} is there twice`);

  /* WCAG 2.2, 1.4.3: contrast of text with what lies behind it */
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = colour => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(value => value / 255).map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4).reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      if (getComputedStyle(one).backgroundImage !== "none" || one.classList.contains("view")) return null;
      const found = rgba(getComputedStyle(one).backgroundColor);
      if (found[3]) return found[3] === 255 ? found : null;
    }
    return [255, 255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || seen.has(element) || !shown(element) || element.closest(":disabled, script, noscript")) continue;
    seen.add(element);
    const style = getComputedStyle(element), ground = behind(element), ink = rgba(element instanceof SVGElement ? style.fill : style.color);
    if (!ground || ink[3] < 255) continue;
    const [bright, dark] = [light(ink), light(ground)].sort((a, b) => b - a), contrast = (bright + 0.05) / (dark + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (contrast < (large ? 3 : 4.5)) faults.push(`contrast ${contrast.toFixed(2)}: ${where(element)}`);
  }
  return faults;
}
