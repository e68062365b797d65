// Measurements as aligned text.

import { geometricMean } from './measure.mjs';

const OURS = 'feathermap';
const SHORT = { feathermap: 'ours', 'onnxruntime-web': 'ort-web', 'tfjs-wasm': 'tfjs', pytorch: 'torch' };

/** @param {object[]} records  one per runtime, with the same cases in the same order @returns {string} */
export function report(records) {
  const suites = [...new Set(records[0].cases.map(({ suite }) => suite))];
  return [machineLines(records), ...suites.map((suite) => suiteTable(suite, records)), summaryTable(records)].join(
    '\n\n',
  );
}

function machineLines(records) {
  const { machine, date } = records[0];
  const lines = records.map(({ runtime, build, peak, contestants }) => {
    const fma = peak.fma ? `, ${peak.fma.toFixed(1)} fused` : '';
    return `${runtime}: 128-bit peak ${peak.mulAdd.toFixed(1)} GFLOP/s mul+add${fma}; ${build ?? 'no'} build of ours; ${contestants.join(', ')}`;
  });
  return [`${machine}, ${date}, one thread`, ...lines].join('\n');
}

/** A row per case; per runtime our speed with its share of the peak measured between the same rounds, then each rival's speed and its time over ours. */
function suiteTable(suite, records) {
  const columns = columnsOf(suite, records);
  const rows = records[0].cases.flatMap((first, i) => {
    if (first.suite !== suite) return [];
    return [[first.name, ...columns.map(({ record, name }) => cell(record.cases[i], name))]];
  });
  const unit = suite === 'lenet' ? 'ms' : 'GFLOP/s';
  return table([`${suite} (${unit})`, ...columns.map(title)], rows);
}

function columnsOf(suite, records) {
  return records.flatMap((record) =>
    record.contestants
      .map((contestant) => contestant.split(' ')[0])
      .filter((name) => record.cases.some(({ suite: its, results }) => its === suite && results[name]))
      .map((name) => ({ record, name })),
  );
}

function title({ record, name }) {
  return `${SHORT[name]}/${record.runtime.split(' ')[1]}`;
}

function cell({ suite, flops, results, wrong }, name) {
  const result = results[name];
  if (!result) return 'none';
  const speed = suite === 'lenet' ? (result.seconds * 1e3).toFixed(3) : gigaflops(flops, result).toFixed(1);
  const flag = wrong.includes(name) ? ' WRONG' : '';
  if (name !== OURS) return `${speed}${results[OURS] ? ` ${result.ratio.toFixed(2)}x` : ''}${flag}`;
  const share = suite === 'lenet' ? '' : ` ${Math.round((100 * results.peak.seconds) / result.seconds)}%`;
  return `${speed}${share}${flag}`;
}

function gigaflops(flops, { seconds }) {
  return flops / seconds / 1e9;
}

/** Per group: time of all its work as often as the network does it, and the geometric mean of the ratios. */
function summaryTable(records) {
  const groups = [...new Set(records[0].cases.map(({ suite, group }) => `${suite} ${group}`))];
  const columns = records.flatMap((record) =>
    record.contestants.map((contestant) => ({ record, name: contestant.split(' ')[0] })),
  );
  const rows = groups.map((group) => [
    group,
    ...columns.map(({ record, name }) =>
      groupCell(
        record.cases.filter((one) => `${one.suite} ${one.group}` === group),
        name,
      ),
    ),
  ]);
  return table(['total ms, mean ratio', ...columns.map(title)], rows);
}

function groupCell(group, name) {
  if (!group.every(({ results }) => results[name])) return 'none';
  const total = group.reduce((sum, { results, count }) => sum + count * results[name].seconds, 0) * 1e3;
  const ratios =
    name !== OURS && group.every(({ results }) => results[OURS]) ? group.map(({ results }) => results[name].ratio) : [];
  return `${total.toFixed(total < 10 ? 3 : 1)}${ratios.length ? ` ${geometricMean(ratios).toFixed(2)}x` : ''}`;
}

/** @param {string[]} header @param {string[][]} rows @returns {string} first column to the left, the others to the right */
export function table(header, rows) {
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
  const line = (row) => row.map((text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join('  ');
  return [line(header), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}
