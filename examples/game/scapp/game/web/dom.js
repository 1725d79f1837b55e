// Building elements without ever parsing text as HTML, and replacing only what has changed.

/** An element; `options` are properties, `on…` handlers, `dataset`, or attributes where there is no property. */
export function h(name, options = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  element.className = classes.join(" ");
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "dataset") Object.assign(element.dataset, value);
    else if (key === "style") for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.includes("-") && key !== "list" && key !== "role") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const seen = new WeakMap();

/**
 * Fill `place` with `build()` when `data` differs from what it was filled with: what stands still keeps focus, selection
 * and animation.
 */
export function keep(place, data, build) {
  const text = JSON.stringify(data);
  if (seen.get(place) === text) return;
  seen.set(place, text);
  place.replaceChildren(...[build()].flat().filter(Boolean));
}

/** For a screen reader: what has just happened. */
export function say(text) {
  const line = h("p", {}, text);
  const place = document.getElementById("said");
  place.append(line);
  while (place.children.length > 5) place.firstChild.remove();
}

/** For everybody, until it is dismissed or has been there for a while. */
export function note(text, kind = "bad") {
  const line = h(`p.note.${kind}`, {}, text, h("button.plain", { type: "button", "aria-label": "Dismiss", onclick: () => line.remove() }, "×"));
  document.getElementById("notes").append(line);
  setTimeout(() => line.remove(), 9000);
}

/** A handler that shows what went wrong, and keeps its button from being pressed twice meanwhile. */
export function doing(work) {
  return async (event) => {
    event?.preventDefault?.();
    const button = event?.submitter ?? event?.currentTarget;
    if (button instanceof HTMLButtonElement) button.disabled = true;
    try {
      await work(event);
    } catch (error) {
      if (!error.code) console.error(error);
      note(error.hint ? `${error.message} (${error.hint})` : error.message);
    } finally {
      if (button instanceof HTMLButtonElement) button.disabled = false;
    }
  };
}

export async function copy(text) {
  await navigator.clipboard.writeText(text);
  note("Copied.", "good");
}

/** The beginning and end of an id or address. */
export function short(text, digits = 6) {
  return text.length > 2 * digits ? `${text.slice(0, digits)}…${text.slice(-4)}` : text;
}
