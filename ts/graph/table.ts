/** Columns of text, aligned: the first `left` to the left, the others, numbers, to the right. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[], left: number): string {
  const lines = [heads, ...rows];
  const widths = heads.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const cell = (text: string, column: number): string =>
    column < left ? text.padEnd(widths[column]!) : text.padStart(widths[column]!);
  return lines.map((line) => line.map(cell).join('  ').trimEnd()).join('\n');
}
