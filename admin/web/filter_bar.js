/** The filters in force as chips, the form that adds or changes one, and what is wrong with one. */

import { fill, h } from "./dom.js";
import { given, namedBy, OFFERED, TIMES, words } from "./filters.js";
import { go, link } from "./route.js";
import { shown } from "./text.js";
import { NoTime, spelledTime } from "./time.js";

/** @typedef {import("./filters.js").Filter} Filter */

/** The filters above a list; `complain` says by one of them what is wrong with it. */
export class FilterBar {
  /** @param {URLSearchParams} query */
  constructor(query) {
    this.query = query;
    this.chips = new Map(given(query).map(([filter, value]) => [filter.name, this.chip(filter, value)]));
    this.list = h("ul", { class: "chips", "aria-label": "Filters" }, ...this.chips.values());
    this.form = h("form", { class: "adding", "aria-label": "Add a filter", hidden: true });
    this.opener = h("button", { type: "button", class: "quiet opener", id: "add-filter", "aria-expanded": "false", title: "key: /" }, "+ Filter");
    this.opener.addEventListener("click", () => (this.form.hidden ? this.open(OFFERED[2]) : this.close()));
    const clear = this.chips.size > 1 && h("a", { class: "quiet", id: "clear-filters", href: link("log", "", without(query, [...this.chips.keys()])) }, "Clear");
    this.element = h("div", { class: "filters" }, this.list, this.opener, clear, this.form);
  }

  /** The names of the filters in force. */
  get names() {
    return [...this.chips.keys()];
  }

  /**
   * @param {Filter} filter
   * @param {string} value
   */
  chip(filter, value) {
    const change = h("button", { type: "button", class: "value", id: `filter-${filter.name}`, "aria-label": `${filter.label}: ${value.slice(0, 200)}; change` }, shown(value, { most: 80 }));
    change.addEventListener("click", () => this.open(filter, value));
    const remove = h("a", { class: "remove", href: link("log", "", without(this.query, [filter.name])), "aria-label": `remove the filter ${filter.label}` }, "×");
    return h("li", { class: "chip", "data-filter": filter.name }, h("span", { class: "name" }, filter.label), change, remove);
  }

  /**
   * Say at the chip of `name` what the server, or we, say of it.
   *
   * @param {string} name
   * @param {string} words
   */
  complain(name, words) {
    const chip = this.chips.get(name);
    if (chip === undefined) return false;
    const id = `wrong-${name}`;
    chip.classList.add("wrong");
    chip.querySelector("button.value")?.setAttribute("aria-describedby", id);
    chip.append(h("span", { class: "why", id, role: "alert" }, shown(words, { most: 1_000 })));
    return true;
  }

  /**
   * @param {Filter} filter
   * @param {string} [value]
   */
  open(filter, value = "") {
    const choices = OFFERED.map((each) => h("option", { value: each.name, selected: each.name === filter.name }, each.label));
    const name = h("select", { id: "filter-name", "aria-label": "Filter" }, choices);
    const place = h("span", { class: "place" });
    const wrong = h("span", { class: "why", role: "alert" });
    const input = () => {
      const chosen = OFFERED.find((each) => each.name === name.value) ?? OFFERED[0];
      fill(place, valueInput(chosen, chosen.name === filter.name ? value : this.query.get(chosen.name) ?? ""));
    };
    name.addEventListener("change", input);
    input();
    fill(this.form, name, place, h("button", { type: "submit", class: "primary" }, "Apply"), h("button", { type: "button", on: { click: () => this.close() } }, "Cancel"), wrong);
    this.form.onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault();
      this.apply(name.value, place.querySelector("input, select"), wrong);
    };
    this.form.onkeydown = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") this.close();
    };
    this.form.hidden = false;
    this.opener.setAttribute("aria-expanded", "true");
    (value ? place.querySelector("input, select") : name)?.focus();
  }

  close() {
    this.form.hidden = true;
    this.opener.setAttribute("aria-expanded", "false");
    this.opener.focus();
  }

  /**
   * @param {string} name
   * @param {HTMLInputElement} input
   * @param {Element} wrong
   */
  apply(name, input, wrong) {
    try {
      const text = input.value.trim();
      if (text === "") throw new NoTime("say which, or cancel");
      const value = TIMES.includes(name) ? spelledTime(text) : text;
      const added = without(this.query, []);
      added.set(name, value);
      this.close();
      go(link("log", "", added));
    } catch (error) {
      if (!(error instanceof NoTime)) throw error;
      input.setAttribute("aria-invalid", "true");
      input.focus();
      fill(wrong, error.message);
    }
  }
}

/**
 * @param {Filter} filter
 * @param {string} value
 */
function valueInput(filter, value) {
  if (filter.values === undefined) {
    return h("input", { id: "filter-value", "aria-label": `Value of ${filter.label}`, value, placeholder: filter.hint, autocomplete: "off", spellcheck: false, maxLength: 2048, size: 36 });
  }
  const values = filter.values.includes(value) || value === "" ? filter.values : [value, ...filter.values];
  return h("select", { id: "filter-value", "aria-label": `Value of ${filter.label}` }, values.map((each) => h("option", { value: each, selected: each === value }, each)));
}

/**
 * Return `query` without `names`, from its first page on.
 *
 * @param {URLSearchParams} query
 * @param {readonly string[]} names
 */
export function without(query, names) {
  const left = new URLSearchParams(query);
  for (const name of [...names, "cursor", "back"]) left.delete(name);
  return left;
}

/** Return what stands where entries would be. */
export function unsearched() {
  return h("p", { class: "empty" }, "Nothing was searched: mend the filter that is marked, or remove it.");
}

/**
 * Return what says an error at the filter that it names.
 *
 * @param {FilterBar} bar
 */
export function complaint(bar) {
  return (/** @type {import("./api.js").ApiError} */ error) => {
    const name = error.status === 400 ? namedBy(error, bar.names) : undefined;
    return name !== undefined && bar.complain(name, words(error)) ? unsearched() : null;
  };
}
