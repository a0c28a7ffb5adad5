// Whether the page's colours can be told apart and read: contrast as WCAG counts it, and the distance between the hues
// of the charts as people with each kind of colour blindness see them (Machado, Oliveira and Fernandes 2009, at its full
// strength), measured in OKLab.
import assert from 'node:assert/strict';

const linear = (hex) => [1, 3, 5].map((at) => {
  const c = parseInt(hex.slice(at, at + 2), 16) / 255;
  return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
});
const times = (matrix, v) => matrix.map((row) => row.reduce((sum, x, n) => sum + x * v[n], 0));
const clamped = (v) => v.map((c) => Math.min(1, Math.max(0, c)));

const SIGHTS = {
  all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  'no red': [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  'no green': [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  'no blue': [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
};

function oklab(rgb) {
  const lms = times([
    [0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]
  ], rgb).map(Math.cbrt);
  return times([
    [0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099], [0.0259040371, 0.7827717662, -0.808675766]
  ], lms);
}

export function contrast(one, other) {
  const [a, b] = [one, other].map((hex) => times([[0.2126, 0.7152, 0.0722]], linear(hex))[0] + 0.05);
  return Math.max(a, b) / Math.min(a, b);
}

/** How far apart two colours are, in hundredths, for who sees least of the difference. */
export function apart(one, other) {
  const distances = Object.values(SIGHTS).map((sight) => {
    const [a, b] = [one, other].map((hex) => oklab(clamped(times(sight, linear(hex)))));
    return Math.hypot(...a.map((x, n) => x - b[n])) * 100;
  });
  return Math.min(...distances);
}

const TEXT = ['ink', 'soft', 'accent', 'well', 'warn', 'bad'];
const LINES = ['hue-1', 'hue-2', 'hue-3', 'hue-4', 'strong', 'drain'];
const TONES = ['well', 'warn', 'bad', 'drain'];

/** Checks the colours of one theme, given as `name → #rrggbb`; gives the least values found. */
export function checkPalette(theme, colour) {
  const least = { text: Infinity, line: Infinity, apart: Infinity };
  const check = (kind, value, enough, what) => {
    assert.ok(value >= enough, `${theme}: ${what} is ${value.toFixed(2)}, under ${enough}`);
    least[kind] = Math.min(least[kind], value);
  };
  for (const ground of ['ground', 'card']) {
    for (const name of TEXT) check('text', contrast(colour[name], colour[ground]), 4.5, `the contrast of ${name} on ${ground}`);
  }
  for (const name of LINES) check('line', contrast(colour[name], colour.card), 3, `the contrast of ${name}`);
  for (const tone of TONES) {
    check('text', contrast(colour.ink, colour[`${tone}-ground`]), 4.5, `the contrast of ink on ${tone}-ground`);
    check('line', contrast(colour[tone], colour[`${tone}-ground`]), 3, `the contrast of the sign of ${tone}`);
  }
  const hues = ['hue-1', 'hue-2', 'hue-3', 'hue-4'];
  hues.forEach((one, n) => hues.slice(n + 1).forEach((other) => {
    check('apart', apart(colour[one], colour[other]), 8, `the distance of ${one} and ${other}`);
  }));
  return least;
}
