// What a list of measurements says: its middle, and how far it spreads.

/** The value below which this part of sorted numbers lies, between two of them by their distance. */
function quantile(sorted, part) {
  const place = (sorted.length - 1) * part;
  const [low, high] = [Math.floor(place), Math.ceil(place)];
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}

export function median(values) {
  return values.length === 0 ? null : quantile(sortedOf(values), 0.5);
}

/** { median, q1, q3, iqr, min, max, runs } of measurements; null of none. */
export function summary(values) {
  if (values.length === 0) return null;
  const sorted = sortedOf(values);
  const [q1, middle, q3] = [0.25, 0.5, 0.75].map(part => quantile(sorted, part));
  return { median: middle, q1, q3, iqr: q3 - q1, min: sorted[0], max: sorted.at(-1), runs: sorted.length };
}

/**
 * The median of what two things took in the same rounds, one over the other: what slowed a round down slowed both. Null where there is no round with both.
 */
export function ratio(over, under) {
  const rounds = Math.min(over.length, under.length);
  return median(Array.from({ length: rounds }, (_, round) => over[round] / under[round]).filter(Number.isFinite));
}

const sortedOf = values => [...values].sort((a, b) => a - b);
