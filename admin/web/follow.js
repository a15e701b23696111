/**
 * Entries as they come, over one answer that goes on (JSON Lines).
 *
 * After a break it goes on behind what was searched (`next` of a heartbeat) or came, so that nothing is
 * missed and nothing searched twice. It waits longer each time, until a stream shows that it goes on: by
 * an entry, or a second heartbeat. It ends when the view is left.
 */

import { ApiError, lines } from "./api.js";
import { commandLine, queryCommand } from "./command.js";
import { fill, h } from "./dom.js";
import { entryRow, entryTable } from "./entries.js";
import { complaint } from "./filter_bar.js";
import { problem } from "./page.js";
import { counted, shown } from "./text.js";
import { time } from "./time.js";

const MOST_ROWS = 500;
const LONGEST_SECONDS = 30;
/** Three heartbeats: what is silent for so long is not there any more. */
const SILENCE_MILLISECONDS = 30_000;

/**
 * @param {HTMLElement} place
 * @param {URLSearchParams} query
 * @param {import("./log.js").Filters} filters
 * @param {import("./filter_bar.js").FilterBar} bar
 * @param {AbortSignal} signal
 */
export async function follow(place, query, filters, bar, signal) {
  const command = commandLine(queryCommand({ ...filters.typed, follow: 1 }));
  const screen = new Screen(place, query, command);
  const stream = new Stream(filters.sent, screen, complaint(bar));
  signal.addEventListener("abort", () => stream.stop());
  void stream.run();
}

/** What is seen of a stream. */
class Screen {
  /**
   * @param {HTMLElement} place
   * @param {URLSearchParams} query
   * @param {HTMLElement} command
   */
  constructor(place, query, command) {
    this.query = query;
    this.came = 0;
    this.state = h("span", { id: "follow-state", role: "status", "aria-live": "polite" });
    this.heartbeat = h("span", { id: "heartbeat", class: "quiet" });
    this.count = h("span", { class: "quiet" }, "no entry yet");
    this.trouble = h("div", {});
    this.table = entryTable([], query, "Entries as they come");
    this.body = this.table.querySelector("tbody");
    fill(place, h("div", { class: "tools following" }, this.state, this.heartbeat, this.count), this.trouble, this.table, command);
  }

  /**
   * @param {string} tone live, waiting or ended
   * @param {...import("./dom.js").Child} text
   */
  say(tone, ...text) {
    this.state.className = `state ${tone}`;
    fill(this.state, h("span", { class: "dot", "aria-hidden": "true" }), ...text);
  }

  /** @param {any} told */
  beat(told) {
    fill(this.heartbeat, "heartbeat ", time(told.heartbeat, { date: false }), ` UTC, ${counted(told.size, "entry", "entries")} in the log`);
  }

  /** @param {any} entry */
  add(entry) {
    this.came += 1;
    const row = entryRow(entry, this.query);
    row.classList.add("new");
    this.body.prepend(row);
    while (this.body.children.length > MOST_ROWS) this.body.lastElementChild.remove();
    const kept = this.came > MOST_ROWS ? `, the newest ${MOST_ROWS} are shown` : "";
    fill(this.count, `${counted(this.came, "entry came", "entries came")}${kept}`);
  }
}

class Stream {
  /**
   * @param {Record<string, string>} filters
   * @param {Screen} screen
   * @param {(error: ApiError) => import("./dom.js").Child} complain
   */
  constructor(filters, screen, complain) {
    this.filters = filters;
    this.screen = screen;
    this.complain = complain;
    this.cursor = /** @type {number | null} */ (null);
    this.failures = 0;
    this.beats = 0;
    this.isStopped = false;
    this.connection = new AbortController();
    this.wake = () => {};
  }

  stop() {
    this.isStopped = true;
    this.connection.abort();
    this.wake();
  }

  async run() {
    this.screen.say("waiting", "Connecting …");
    while (!this.isStopped) {
      const why = await this.listen();
      if (why === null || this.isStopped) return;
      await this.pause(why);
    }
  }

  /** Return why it ended, or null if there is no sense in going on. */
  async listen() {
    this.connection = new AbortController();
    const { signal } = this.connection;
    let watch = this.watch();
    this.beats = 0;
    try {
      for await (const told of lines("../v1/audit/follow", { ...this.filters, cursor: this.cursor }, signal)) {
        clearTimeout(watch);
        watch = this.watch();
        if ("end" in told) {
          this.cursor = told.next ?? this.cursor;
          return [`The server ended it: `, shown(told.end)];
        }
        this.take(told);
      }
      return ["The connection ended"];
    } catch (error) {
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) {
        this.screen.say("ended", "Ended");
        fill(this.screen.trouble, this.complain(error) || problem(error));
        return null;
      }
      return error instanceof ApiError ? [shown(error.message)] : ["The connection broke"];
    } finally {
      clearTimeout(watch);
      this.connection.abort();
    }
  }

  /** @param {any} told */
  take(told) {
    if ("heartbeat" in told) {
      this.beats += 1;
      if (this.beats > 1) this.failures = 0;
      this.screen.say("live", "Following");
      this.screen.beat(told);
      this.cursor = told.next ?? this.cursor;
      return;
    }
    this.failures = 0;
    this.cursor = told.index;
    this.screen.add(told);
  }

  watch() {
    return setTimeout(() => this.connection.abort(), SILENCE_MILLISECONDS);
  }

  /** @param {import("./dom.js").Child[]} why */
  async pause(why) {
    const seconds = Math.min(2 ** this.failures, LONGEST_SECONDS);
    this.failures += 1;
    const now = h("button", { type: "button", class: "quiet", on: { click: () => this.wake() } }, "Now");
    this.screen.say("waiting", ...why, `. Going on in ${seconds} s `, now);
    await new Promise((resolve) => {
      const waiting = setTimeout(resolve, seconds * 1000);
      this.wake = () => {
        clearTimeout(waiting);
        resolve(undefined);
      };
    });
    if (!this.isStopped) this.screen.say("waiting", "Connecting again …");
  }
}
