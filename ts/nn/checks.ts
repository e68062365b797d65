/** Throws RangeError unless every named value is a whole number >= 1. */
export function checkSizes(layer: string, sizes: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(sizes))
    if (!Number.isInteger(value) || value < 1)
      throw new RangeError(`${layer}: ${name} must be a whole number >= 1, got ${value}`);
}
