/** A value as error messages show it: JSON would turn NaN into null and a tensor into all of its memory. */
export function printed(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(printed).join(',')}]`;
  return typeof value === 'string' ? `"${value}"` : String(value);
}
