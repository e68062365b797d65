/** Throws RangeError unless every named value is a whole number >= 1. */
export function checkSizes(layer: string, sizes: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(sizes))
    if (!Number.isInteger(value) || value < 1)
      throw new RangeError(`${layer}: ${name} must be a whole number >= 1, got ${value}`);
}

/** Options as `toString` shows them: `, stride=2, padding=1`. */
export function showOptions(options: object): string {
  return Object.entries(options)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `, ${name}=${JSON.stringify(value)}`)
    .join('');
}
