// Numbers, times and labels as people read them.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

/** What stands where there is nothing to say. */
export const NONE = '–';

/** `12,345` */
export const count = (value) => (Number.isFinite(value) ? whole.format(value) : NONE);

const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
/** `950`, `5.5K`: where there is little room. */
export const short = (value) => (value < 10 ? tenths : compact).format(value);

/** `0.4`, `12`: per second. */
export const rate = (value) => (Number.isFinite(value) ? (value < 10 ? tenths : whole).format(value) : NONE);

/** A duration in the two units that matter: `3.2 ms`, `42 s`, `3 h 12 min`. */
export function seconds(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value === 0) return '0 s';
  if (value < 0.01) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.floor(value)} s`;
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(value % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** `12:03:11` in the reader's time zone, to be held beside a log. */
export function clock(at) {
  const time = new Date(at);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':');
}

/** `1 stream`, `12 streams` */
export const many = (value, one, several = `${one}s`) => `${count(value)} ${value === 1 ? one : several}`;

/** The value of a label in words: `max_age` is `max age`. */
export const label = (name) => name.replaceAll('_', ' ');

/** `client 3, done 1`: the parts that are not zero, the largest first. */
export function parts(object) {
  const found = Object.entries(object ?? {}).filter(([, value]) => value > 0).sort(([, a], [, b]) => b - a);
  return found.map(([name, value]) => `${label(name)} ${count(value)}`).join(', ');
}

/** The sum of the numbers in an object that may be missing. */
export const sum = (object) => Object.values(object ?? {}).reduce((total, value) => total + (Number(value) || 0), 0);
