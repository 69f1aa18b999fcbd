// Pictures as arrays, resized and turned as Pillow and TensorFlow do it for the networks' training.
// A picture is {data, width, height}; data holds red, green and blue of each pixel, row by row.

export const picture = (Kind, width, height) =>
  ({ data: new Kind(width * height * 3), width, height });

// For each of `count` output pixels: the first input pixel and the weights of those from it on.
export function bilinear(size, count, start = 0, span = size) {
  const scale = span / count, reach = Math.max(scale, 1);  // averages what it shrinks
  return Array.from({ length: count }, (_, k) => {
    const centre = start + (k + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(size, Math.floor(centre + reach + 0.5));
    const weights = Array.from({ length: end - first },
      (_, i) => Math.max(0, 1 - Math.abs((first + i + 0.5 - centre) / reach)));
    return { first, weights: shares(weights) };
  });
}

export function area(size, count, scale = size / count) {
  return Array.from({ length: count }, (_, k) => {
    const from = k * scale, to = Math.min(size, from + scale), first = Math.floor(from);
    const end = Math.min(size, Math.ceil(to));
    const weights = Array.from({ length: end - first },
      (_, i) => Math.min(to, first + i + 1) - Math.max(from, first + i));
    return { first, weights: shares(weights) };
  });
}

function shares(weights) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

// Across, then down; bytes are rounded after each.
export function resample(image, across, down) {
  const Kind = image.data.constructor;
  const wide = picture(Kind, across.length, image.height);
  mix(image.data, wide.data, across, 3, 3, image.height, image.width * 3, across.length * 3);
  const done = picture(Kind, across.length, down.length), row = across.length * 3;
  mix(wide.data, done.data, down, row, row, row / 3, 3, 3);
  return done;
}

// Weighted sums along one axis (steps `from` and `to`), for each of `lines` beside it.
function mix(source, target, taps, from, to, lines, nextFrom, nextTo) {
  for (let line = 0; line < lines; line++) {
    taps.forEach(({ first, weights }, k) => {
      let at = line * nextFrom + first * from, red = 0, green = 0, blue = 0;
      for (const weight of weights) {
        red += source[at] * weight;
        green += source[at + 1] * weight;
        blue += source[at + 2] * weight;
        at += from;
      }
      const place = line * nextTo + k * to;
      target[place] = red;
      target[place + 1] = green;
      target[place + 2] = blue;
    });
  }
}

export const resize = (image, width, height) =>
  resample(image, bilinear(image.width, width), bilinear(image.height, height));

// Averages of squares of `times` pixels.
export const reduce = (image, times) => resample(image,
  area(image.width, Math.ceil(image.width / times), times),
  area(image.height, Math.ceil(image.height / times), times));

// Square of `side` pixels whose point turn * z + shift (complex numbers [x, y], side 1) shows z.
export function warp(image, turn, shift, side) {
  const times = Math.max(1, Math.floor(0.5 / (Math.hypot(...turn) * side)));
  // Interpolation looks at few pixels only: shrink large faces first.
  const source = times > 1 ? reduce(image, times) : image;
  const size = turn[0] ** 2 + turn[1] ** 2, back = [turn[0] / size, -turn[1] / size];
  const target = picture(Uint8ClampedArray, side, side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const [u, v] = product(back, [(x + 0.5) / side - shift[0], (y + 0.5) / side - shift[1]]);
      cubic(source, u / times, v / times, target.data, (y * side + x) * 3);
    }
  }
  return target;
}

const product = ([a, b], [c, d]) => [a * c - b * d, a * d + b * c];

function cubic(image, x, y, target, place) {
  const { data, width, height } = image;
  if (x < 0 || y < 0 || x >= width || y >= height) return;  // black
  const left = Math.floor(x - 0.5), top = Math.floor(y - 0.5);
  const across = powers(x - 0.5 - left), down = powers(y - 0.5 - top);
  for (let colour = 0; colour < 3; colour++) {
    let sum = 0;
    for (let j = 0; j < 4; j++) {
      const row = Math.min(height - 1, Math.max(0, top + j - 1)) * width;
      for (let i = 0; i < 4; i++) {
        const column = Math.min(width - 1, Math.max(0, left + i - 1));
        sum += down[j] * across[i] * data[(row + column) * 3 + colour];
      }
    }
    target[place + colour] = Math.floor(sum + 1e-9);  // cut, as Pillow does here
  }
}

// Pillow's bicubic weights at a place 0..1 between the second and the third of four pixels.
function powers(d) {
  return [-d + 2 * d ** 2 - d ** 3, 1 - 2 * d ** 2 + d ** 3, d + d ** 2 - d ** 3, -(d ** 2) + d ** 3];
}
