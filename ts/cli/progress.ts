/** The part of a terminal stream that the bar needs. */
export interface Terminal {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const LONGEST = 30;
const REDRAW_AFTER_MS = 50;

/**
 * A progress bar on one line of a terminal, redrawn in place at most 20 times a second; on anything else than a terminal
 * it writes nothing.
 */
export class ProgressBar {
  readonly #terminal: Terminal;
  readonly #now: () => number;
  #drawnAt = -Infinity;
  #visible = false;

  constructor(terminal: Terminal, now: () => number = () => performance.now()) {
    this.#terminal = terminal;
    this.#now = now;
  }

  /** Shows that `done` of `total` steps are done; `label` stands in front, `note` behind. */
  update(done: number, total: number, label: string, note = ''): void {
    if (this.#terminal.isTTY !== true) return;
    const time = this.#now();
    if (time - this.#drawnAt < REDRAW_AFTER_MS) return;
    this.#drawnAt = time;
    this.#visible = true;
    this.#terminal.write(`\r${barLine(done, total, label, note, this.#terminal.columns ?? 80)}\x1b[K`);
  }

  /** Takes the bar off the screen, so that a line can be printed in its place. */
  clear(): void {
    if (this.#visible) this.#terminal.write('\r\x1b[K');
    this.#visible = false;
    this.#drawnAt = -Infinity;
  }
}

/** One line that is shorter than the terminal is wide. */
export function barLine(done: number, total: number, label: string, note: string, columns: number): string {
  const share = total > 0 ? Math.min(1, Math.max(0, done / total)) : 1;
  const filled = Math.round(share * LONGEST);
  const bar = '█'.repeat(filled) + '░'.repeat(LONGEST - filled);
  return `${label} ${bar} ${done}/${total} ${note}`.trimEnd().slice(0, Math.max(0, columns - 1));
}
