/** Making elements. Text is only ever set as text: nothing here, or anywhere, parses HTML. */

/** @typedef {Node | string | number | null | undefined | false | Child[]} Child */

/**
 * Return an element with properties and children.
 *
 * `class`, `aria-*`, `data-*`, `role`, `for` and the like are attributes; `on` holds listeners; all
 * else is set as a property. Links to anything but our own views are refused.
 *
 * @param {string} name
 * @param {Record<string, any> | null} [properties]
 * @param {...Child} children
 * @returns {any}
 */
export function h(name, properties, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (key === "href") {
      if (!/^(#\/|blob:)/.test(value)) throw new Error("a link leads to a view of the console only");
      made.setAttribute("href", value);
    } else if (key in made && !/^(aria-|data-|role$|list$)/.test(key)) {
      /** @type {any} */ (made)[key] = value;
    } else {
      made.setAttribute(key === "class" ? "class" : key, String(value));
    }
  }
  append(made, children);
  return made;
}

/**
 * @param {Element} parent
 * @param {Child[]} children
 */
function append(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(parent, child);
    else parent.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Replace what `parent` holds.
 *
 * @param {Element} parent
 * @param {...Child} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}
