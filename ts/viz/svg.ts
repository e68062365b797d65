// The few pieces of SVG that the pictures share. Everything is text: no DOM, no library.

/** Colours of data series: told apart with every common kind of colour blindness (Okabe and Ito 2008). */
export const palette: readonly string[] = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];

/** Colour of text and axes. */
export const INK = '#333';
/** Colour of grid lines and frames. */
export const FAINT = '#ddd';

/** Text made safe for SVG content and attributes. */
export function escapeXml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (character) => entities[character] as string);
}

/** A coordinate with at most two decimals, so that files stay small. */
export function coordinate(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** A complete document of the given size with a white ground. */
export function svgDocument(width: number, height: number, content: readonly string[]): string {
  const size = `width="${coordinate(width)}" height="${coordinate(height)}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} viewBox="0 0 ${coordinate(width)} ${coordinate(height)}"`,
    ` font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="12" fill="${INK}">\n`,
    `<rect ${size} fill="#fff"/>\n`,
    content.join('\n'),
    '\n</svg>\n',
  ].join('');
}

/** One line of text; `attributes` such as `text-anchor="middle"`. */
export function svgText(x: number, y: number, text: string, attributes = ''): string {
  return `<text x="${coordinate(x)}" y="${coordinate(y)}" ${attributes}>${escapeXml(text)}</text>`;
}
