// Pictures as SVG text: what `feathermap/viz` exports.
export { confusionMatrix } from './confusion-matrix.ts';
export { featureMaps, filters, type GridOptions, imageGrid, type Planes } from './image-grid.ts';
export { type LineChart, lineChart, type Series } from './line-chart.ts';
