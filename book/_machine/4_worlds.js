/* The collapse machine, part 3: worlds, and the loop on their rows.

   A world says what real rows are, what a model keeps of its rows, how it writes new ones, and what is
   measured: the spread within a lineage, and the distance between lineages and the truth. */
(function (machine) {
  "use strict";

  const { Random, compose, exact, unlimited } = machine;

  /* Standard normal distribution function, by Marsaglia's series (2004); 0 or 1 far out. */
  function normalCdf(z) {
    if (Math.abs(z) > 8) return z < 0 ? 0 : 1;
    let sum = z, term = z;
    for (let i = 3; sum + term !== sum; i += 2) sum += term *= (z * z) / i;
    return 0.5 + (sum * Math.exp(-0.5 * z * z)) / Math.sqrt(2 * Math.PI);
  }

  const bell = (x, mean, sd) =>
    Math.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * Math.sqrt(2 * Math.PI));

  /* ---- rows of one lineage ---- */

  class Rows {
    constructor(buffer, length) {
      buffer.used = length;
      Object.assign(this, { buffer, length });
    }

    /* Appends in place where nobody else has: a pool grows without being copied each time. */
    join(other) {
      if (!this.length || !other.length) return this.length ? this : other;
      const length = this.length + other.length;
      let buffer = this.buffer;
      if (buffer.used !== this.length || buffer.length < length) {
        buffer = new buffer.constructor(2 * length);
        buffer.set(this.buffer.subarray(0, this.length));
      }
      buffer.set(other.buffer.subarray(0, other.length), this.length);
      return new Rows(buffer, length);
    }

    /* n rows without replacement: the first steps of a shuffle, which are undone afterwards. */
    choose(n, random) {
      if (n === this.length) return this;
      const { buffer, length } = this, chosen = new buffer.constructor(n), swapped = [];
      for (let i = 0; i < n; i++) {
        const j = i + random.below(length - i);
        [buffer[i], buffer[j]] = [buffer[j], buffer[i]];
        chosen[i] = buffer[i];
        swapped.push(j);
      }
      for (let i = n - 1; i >= 0; i--)
        [buffer[i], buffer[swapped[i]]] = [buffer[swapped[i]], buffer[i]];
      return new Rows(chosen, n);
    }
  }

  function fill(Type, n, draw) {
    const buffer = new Type(n);
    for (let i = 0; i < n; i++) buffer[i] = draw();
    return new Rows(buffer, n);
  }

  function moments({ buffer, length }, ddof) {
    let mean = 0, square = 0;
    for (let i = 0; i < length; i++) mean += buffer[i];
    mean /= length;
    for (let i = 0; i < length; i++) square += (buffer[i] - mean) ** 2;
    return { mean, variance: square / (length - ddof) };
  }

  /* ---- worlds of numbers ---- */

  const TWO = { separation: 4, width: 1 };

  /* The truth: one Gaussian, or two of equal weight. */
  function numbers(two) {
    const half = two ? TWO.separation / 2 : 0;
    const variance = half ** 2 + 1;
    return {
      variance,
      draw: (random) => random.normal() + (two && random.bits() & 1 ? half : -half),
      pdf: (x) => (bell(x, -half, 1) + bell(x, half, 1)) / 2,
      cdf: (x) => (normalCdf(x + half) + normalCdf(x - half)) / 2,
      range: two ? [-7, 7] : [-4, 4],
    };
  }

  /* What a Gaussian writes: at temperature T the density to the power 1/T, then only what passes the
     check. A row at distance d from its centre passes with probability exp(-d^2 / 2 width^2), and
     what passes is Gaussian again: precisions add. */
  function written(fit, { temperature, check, centre, width }) {
    const variance = fit.variance * temperature;
    if (!check) return { mean: fit.mean, variance };
    const tolerance = width ** 2, passed = (variance * tolerance) / (variance + tolerance);
    const mean = (fit.mean * tolerance + centre * variance) / (variance + tolerance);
    return { mean, variance: passed };
  }

  function gaussian(config, two) {
    const truth = numbers(two), V = truth.variance;
    const ddof = config.estimator === "unbiased" ? 1 : 0;
    return {
      truth,
      real: (n, random) => fill(Float64Array, n, () => truth.draw(random)),
      fit: (rows) => moments(rows, ddof),
      write(fit, n, random) {
        const { mean, variance } = written(fit, config), sd = Math.sqrt(variance);
        return fill(Float64Array, n, () => mean + sd * random.normal());
      },
      within: (fit) => fit.variance / V,
      between: (fit) => fit.mean ** 2 / V,
      density: (fit) => {
        const sd = Math.max(Math.sqrt(fit.variance), 1e-12);
        return (x) => bell(x, fit.mean, sd);
      },
      law() {
        if (config.check) {
          const path = unlimited({
            ...config,
            truth: [0, V],
            write([mean, square]) {
              const rows = written({ mean, variance: square - mean ** 2 }, config);
              return [rows.mean, rows.variance + rows.mean ** 2];
            },
          });
          return {
            exact: false,
            within: path.map(([mean, square]) => (square - mean ** 2) / V),
            between: path.map(([mean]) => mean ** 2 / V),
          };
        }
        const write = (v) => v * config.temperature;
        return { exact: true, ...exact({ ...config, ddof, write }) };
      },
    };
  }

  function kernel(config) {
    const truth = numbers(true), V = truth.variance, h = config.bandwidth;
    return {
      truth,
      real: (n, random) => fill(Float64Array, n, () => truth.draw(random)),
      fit: (rows) => ({ ...moments(rows, 0), rows }),
      write: ({ rows }, n, random) =>
        fill(Float64Array, n, () => rows.buffer[random.below(rows.length)] + h * random.normal()),
      within: (fit) => (fit.variance + h * h) / V,
      between: (fit) => fit.mean ** 2 / V,
      /* Rows are counted on a fine grid, and the grid is smoothed: the same to the eye. */
      density({ rows }) {
        const [low, high] = truth.range, step = h / 8, margin = 4 * h;
        const cells = Math.ceil((high - low + 2 * margin) / step), counted = new Float64Array(cells);
        for (let i = 0; i < rows.length; i++) {
          const cell = Math.floor((rows.buffer[i] - low + margin) / step);
          if (cell >= 0 && cell < cells) counted[cell] += 1 / rows.length;
        }
        const shape = Array.from({ length: 65 }, (_, i) => bell((i - 32) * step, 0, h));
        return (x) => {
          const middle = Math.floor((x - low + margin) / step);
          let sum = 0;
          for (let i = -32; i <= 32; i++) sum += (counted[middle + i] ?? 0) * shape[i + 32];
          return sum;
        };
      },
      law() {
        const extra = (h * h) / V;
        const { within, between } = exact({ ...config, write: (v) => v + extra });
        return { exact: true, within: within.map((v, i) => (i ? v + extra : v)), between };
      },
    };
  }

  /* ---- worlds of words; the bins of a histogram are words too ---- */

  const diversity = (p) => 1 - p.reduce((sum, share) => sum + share * share, 0);

  /* Probabilities to the power 1/T. */
  function tempered(p, temperature) {
    if (temperature === 1) return p;
    const weights = p.map((share) => share ** (1 / temperature));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map((weight) => weight / total);
  }

  /* A draw from a list of probabilities, by halving. */
  function sampler(p) {
    const sums = new Float64Array(p.length);
    let total = 0;
    for (let i = 0; i < p.length; i++) sums[i] = total += p[i];
    return (random) => {
      const u = random.uniform() * total;
      let low = 0, high = p.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (sums[middle] > u) high = middle;
        else low = middle + 1;
      }
      return low;
    };
  }

  function symbols(config, p, more = {}) {
    const H = diversity(p), draw = sampler(p), { temperature } = config;
    return {
      p, H,
      real: (n, random) => fill(Uint16Array, n, () => draw(random)),
      fit(rows) {
        const shares = new Float64Array(p.length), each = 1 / rows.length;
        let alive = 0;
        for (let i = 0; i < rows.length; i++) {
          if (shares[rows.buffer[i]] === 0) alive += 1;
          shares[rows.buffer[i]] += each;
        }
        return { shares, alive, rows };
      },
      write({ shares, rows }, n, random) {
        if (temperature === 1)
          return fill(Uint16Array, n, () => rows.buffer[random.below(rows.length)]);
        const next = sampler(tempered(shares, temperature));
        return fill(Uint16Array, n, () => next(random));
      },
      within: (fit) => diversity(fit.shares) / H,
      between: (fit) => fit.shares.reduce((sum, share, i) => sum + (share - p[i]) ** 2, 0) / H,
      law() {
        if (temperature === 1) return { exact: true, ...exact({ ...config, copies: true }) };
        const path = unlimited({ ...config, truth: p, write: (q) => tempered(q, temperature) });
        return {
          exact: false,
          within: path.map((q) => diversity(q) / H),
          between: path.map((q) => q.reduce((sum, x, i) => sum + (x - p[i]) ** 2, 0) / H),
        };
      },
      ...more,
    };
  }

  function english(config) {
    const chosen = machine.english.slice(0, config.words);
    const total = chosen.reduce((sum, word) => sum + word.frequency, 0);
    const names = chosen.map((word) => word.name);
    return symbols(config, chosen.map((word) => word.frequency / total), { names });
  }

  function zipf(config) {
    const weights = Array.from({ length: config.words }, (_, i) => (i + 1) ** -config.exponent);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return symbols(config, weights.map((weight) => weight / total));
  }

  function histogram(config) {
    const truth = numbers(true), wide = config.bin, end = Math.ceil(10 / wide);
    const p = Array.from({ length: 2 * end }, (_, i) => {
      const left = (i - end) * wide;
      return truth.cdf(left + wide) - truth.cdf(left);
    });
    const at = (x) => Math.floor(x / wide) + end;
    /* Left and right end of each bin, just inside. */
    const ends = Array.from({ length: 4 * end }, (_, i) =>
      (((i + 1) >> 1) - end) * wide + (i & 1 ? -1e-9 : 1e-9));
    return symbols({ ...config, temperature: 1 }, p, {
      truth, ends, bins: true,
      density: ({ shares }) => (x) => (shares[at(x)] ?? 0) / wide,
    });
  }

  const worlds = {
    gaussian: (config) => gaussian(config, false),
    english,
    zipf,
    one: (config) => gaussian(config, true),
    kernel,
    histogram,
  };

  /* ---- the loop ---- */

  /* A run of all lineages. `work(until)` goes on until it is told to stop or a generation is done,
     which it says; so a frame never waits for all lineages. */
  class Run {
    constructor(config) {
      this.config = config;
      this.world = worlds[config.world](config);
      this.law = this.world.law();
      this.generation = 0;
      this.next = 0;
      const table = () =>
        Array.from({ length: config.generations + 1 }, () => new Float64Array(config.lineages));
      Object.assign(this, { within: table(), between: table() });
      this.within[0].fill(1);
      this.lineages = Array.from({ length: config.lineages }, (_, i) => ({
        random: new Random(config.seed, i),
      }));
    }

    get finished() {
      return this.generation === this.config.generations;
    }

    work(until = () => false) {
      if (this.finished) return true;
      while (this.next < this.config.lineages) {
        this.advance(this.lineages[this.next], this.next);
        this.next += 1;
        if (until()) break;
      }
      if (this.next < this.config.lineages) return false;
      this.next = 0;
      this.generation += 1;
      return true;
    }

    finish() {
      while (!this.finished) this.work();
      return this;
    }

    advance(lineage, i) {
      const { world, config } = this, { random, fitted } = lineage;
      let training;
      if (!fitted) {
        training = lineage.original = lineage.pool = world.real(config.size, random);
      } else {
        const sources = {
          model: (n) => world.write(fitted, n, random),
          fresh: (n) => world.real(n, random),
          original: lineage.original,
          pool: lineage.pool,
          share: config.share,
          random,
        };
        [training, lineage.pool] = compose[config.workflow](sources, config.size);
      }
      lineage.fitted = world.fit(training);
      const g = this.generation + 1;
      this.within[g][i] = world.within(lineage.fitted);
      this.between[g][i] = world.between(lineage.fitted);
    }
  }

  Object.assign(machine, { Run, Rows, worlds, written, tempered, normalCdf });
})((globalThis.collapseMachine ??= {}));
