// Whether modules still have the layers and parameters that they were captured with: asked at every replay, so it must cost next to nothing.

/** Something with parts: a module's own parameters and direct children. */
export interface Whole {
  parts(): readonly unknown[];
}

/** Modules with the parts they had when they ran. */
export class PartsWatch {
  readonly #expected: ReadonlyMap<Whole, readonly unknown[]>;
  /** The modules, and how many properties each has: one that was added shows in the number. */
  readonly #wholes: readonly Whole[];
  readonly #counts: number[] = [];
  /** Properties, for whatever they hold may one day be a part, and entries of arrays: owner, name, value, one after the other. */
  readonly #owners: Record<string | number, unknown>[] = [];
  readonly #names: (string | number)[] = [];
  readonly #values: unknown[] = [];

  constructor(expected: ReadonlyMap<Whole, readonly unknown[]>) {
    this.#expected = expected;
    this.#wholes = [...expected.keys()];
  }

  /** Whether all modules have the same parts. Looks closely only when a property changed that may hold one. */
  unchanged(): boolean {
    if (this.#counts.length && this.#sameProperties()) return true;
    for (const [whole, expected] of this.#expected) {
      const parts = whole.parts();
      if (parts.length !== expected.length || parts.some((part, i) => part !== expected[i])) return false;
    }
    this.#note();
    return true;
  }

  #sameProperties(): boolean {
    const owners = this.#owners;
    const names = this.#names;
    const values = this.#values;
    for (let i = 0; i < values.length; i++) if (owners[i]![names[i]!] !== values[i]) return false;
    const wholes = this.#wholes;
    for (let i = 0; i < wholes.length; i++) if (Object.keys(wholes[i]!).length !== this.#counts[i]) return false;
    return true;
  }

  #note(): void {
    this.#owners.length = this.#names.length = this.#values.length = this.#counts.length = 0;
    for (const whole of this.#wholes) {
      const names = Object.keys(whole);
      this.#counts.push(names.length);
      for (const name of names) this.#noteProperty(whole, name);
    }
  }

  #noteProperty(owner: object, name: string): void {
    const value = (owner as Record<string, unknown>)[name];
    // An index as a number is found without reading its digits.
    this.#add(owner, String(Number(name)) === name ? Number(name) : name, value);
    if (!Array.isArray(value)) return;
    this.#add(value, 'length', value.length);
    value.forEach((entry, i) => {
      this.#add(value, i, entry);
    });
  }

  #add(owner: object, name: string | number, value: unknown): void {
    this.#owners.push(owner as Record<string | number, unknown>);
    this.#names.push(name);
    this.#values.push(value);
  }
}
