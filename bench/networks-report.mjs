// Measurements of whole networks as aligned text.

import { nameOf, runtimeOf } from './contestants.mjs';
import { goalsReached } from './goals.mjs';
import { geometricMean, median, medianRatio, quantile } from './measure.mjs';
import { table } from './report.mjs';

/** @param {object} record  what `--json` writes @returns {string} */
export function networksReport(record) {
  const { machine, date, threads, versions, cases } = record;
  const head = `${machine}, ${date}, ${threads} thread${threads > 1 ? 's' : ''}`;
  const who = Object.entries(versions).map(([id, version]) => `${id}: ${version}`);
  return [[head, ...who].join('\n'), ...cases.map(caseTable), meansTable(cases), goalsTable(cases)]
    .filter(Boolean)
    .join('\n\n');
}

const isOurs = (id) => nameOf(id).startsWith('feathermap');
const isPeak = (id) => nameOf(id) === 'peak';

/** Whether a ratio of these two says something: one of ours and another contestant, of the same runtime or native. */
const comparable = (our, other) =>
  other !== our &&
  !isPeak(other) &&
  (isOurs(other) || runtimeOf(other) === runtimeOf(our) || runtimeOf(other) === 'native');

/** A row per contestant: milliseconds with quartiles, speed, share of the peak of its runtime, and its time over each of ours. */
function caseTable({ network, batch, flops, results, wrong, failed }) {
  const ids = Object.keys(results);
  const ours = ids.filter(isOurs);
  const rows = ids.map((id) => {
    const { samples } = results[id];
    const over = (our) => (comparable(our, id) ? `${medianRatio(samples, results[our].samples).toFixed(2)}x` : '');
    return [
      id + (wrong.includes(id) ? ' WRONG' : ''),
      milliseconds(median(samples)),
      `${milliseconds(quantile(samples, 0.25))}-${milliseconds(quantile(samples, 0.75))}`,
      (flops / median(samples) / 1e9).toFixed(1),
      share(results, id),
      ...ours.map(over),
    ];
  });
  const header = [
    `${network}, batch ${batch}`,
    'ms',
    'quartiles',
    'GFLOP/s',
    'of peak',
    ...ours.map((id) => `over ${id}`),
  ];
  const absent = Object.entries(failed).map(([id, reason]) => `${id}: ${reason.split('\n')[0]}`);
  return [table(header, rows), ...absent].join('\n');
}

function share(results, id) {
  const peak = results[`peak@${runtimeOf(id)}`];
  if (!peak || isPeak(id)) return '';
  return `${Math.round(100 * medianRatio(peak.samples, results[id].samples))}%`;
}

function milliseconds(seconds) {
  return (seconds * 1e3).toFixed(seconds < 0.01 ? 3 : 1);
}

/** Per batch, geometric means of the ratios over the networks on 224x224 images that both took part in. */
function meansTable(cases) {
  const rows = [...new Set(cases.map(({ batch }) => batch))].flatMap((batch) => {
    const large = cases.filter((one) => one.batch === batch && one.network !== 'lenet');
    const ids = [...new Set(large.flatMap(({ results }) => Object.keys(results)))];
    return pairs(ids).map(([our, rival]) => {
      const ratios = large
        .filter(({ results }) => results[our] && results[rival])
        .map(({ network, results }) => ({ network, ratio: medianRatio(results[rival].samples, results[our].samples) }));
      return [
        `${our} against ${rival}, batch ${batch}`,
        ratios.length ? geometricMean(ratios.map(({ ratio }) => ratio)).toFixed(2) : '',
        ratios.map(({ network, ratio }) => `${network} ${ratio.toFixed(2)}`).join(', '),
      ];
    });
  });
  return rows.length ? table(['times faster (rival over ours)', 'mean', ''], rows) : '';
}

function goalsTable(cases) {
  const rows = goalsReached(cases).map(({ what, goal, reached }) => [
    what,
    goal.toFixed(2),
    reached.toFixed(2),
    reached >= goal ? 'yes' : 'no',
  ]);
  return rows.length ? table(['goals (rival over ours)', 'goal', 'now', 'reached'], rows) : '';
}

/** Ours with every rival it can be compared with. */
function pairs(ids) {
  return ids
    .filter(isOurs)
    .flatMap((our) => ids.filter((id) => !isOurs(id) && comparable(our, id)).map((rival) => [our, rival]));
}
