/* The collapse machine, part 2: workflows, and what they do exactly.

   A workflow asks for rows, joins and chooses. It is written once and runs on three kinds of samples:
   on rows (worlds.js), on expected samples, which give the exact law, and on unlimited ones, which
   give the loop without chance. The expected samples are those of collapse_utils.kinship. */
(function (machine) {
  "use strict";

  /* Half a row goes to the even number, as in Python. */
  function rounded(x) {
    const low = Math.floor(x);
    if (x - low !== 0.5) return Math.round(x);
    return low % 2 ? low + 1 : low;
  }

  /* Real rows of a training set, and rows of the model, as FreshData and Mix count them. */
  function counts(workflow, share, size) {
    let real = 0;
    if (workflow === "fresh") real = rounded(share * size);
    if (workflow === "keep") {
      const exact = [(1 - share) * size, share * size];
      const whole = exact.map((rows) => Math.floor(rows + 1e-9));
      real = whole[1];
      if (whole[0] + whole[1] < size && whole[1] - exact[1] < whole[0] - exact[0]) real += 1;
    }
    return { real, model: size - real };
  }

  /* Each gives the next training set and the pool to be kept. */
  const compose = {
    replace({ model }, size) {
      const rows = model(size);
      return [rows, rows];
    },
    accumulate({ model, pool }, size) {
      const all = pool.join(model(size));
      return [all, all];
    },
    budget({ model, pool, random }, size) {
      const all = pool.join(model(size));
      return [all.choose(size, random), all];
    },
    fresh({ model, fresh, share }, size) {
      const n = counts("fresh", share, size);
      const rows = model(n.model).join(fresh(n.real));
      return [rows, rows];
    },
    keep({ model, original, share, random }, size) {
      const n = counts("keep", share, size);
      const rows = model(n.model).join(original.choose(n.real, random));
      return [rows, rows];
    },
  };

  /* ---- expected samples: the chance that two rows have one ancestor ---- */

  /* A sample in expectation: n rows, E[x.x] of one, E[x.y] of two drawn with replacement, and E[x.y]
     with a row of each other sample in use. The truth has mean 0, so strangers have product 0. */
  class Expected {
    constructor(n, square, both, akin) {
      Object.assign(this, { n, square, both, akin });
      for (const [other, product] of akin) other.akin.set(this, product);
    }

    product(other) {
      return other === this ? this.both : (this.akin.get(other) ?? 0);
    }

    variance(ddof) {
      return ((this.square - this.both) * this.n) / (this.n - ddof);
    }

    join(other) {
      if (!this.n || !other.n) return this.n ? this : other;
      const n = this.n + other.n;
      const parts = [[this.n / n, this], [other.n / n, other]];
      let both = 0, square = 0;
      for (const [c, a] of parts) {
        square += c * a.square;
        for (const [d, b] of parts) both += c * d * a.product(b);
      }
      return new Expected(n, square, both, kin(parts));
    }

    choose(n) {
      if (n === this.n) return this;
      if (n === 0) return new Expected(0, 0, 0, new Map());
      const pair = this.n === 1 ? this.both : (this.both - this.square / this.n) / (1 - 1 / this.n);
      return new Expected(n, this.square, met(n, this.square, pair), kin([[1, this]]));
    }
  }

  function kin(parts) {
    const others = new Set(parts.flatMap(([, part]) => [part, ...part.akin.keys()]));
    const products = new Map();
    for (const other of others) {
      let product = 0;
      for (const [c, part] of parts) product += c * part.product(other);
      products.set(other, product);
    }
    return products;
  }

  const met = (n, square, pair) => square / n + (1 - 1 / n) * pair;

  /* Rows that are copies (words): the square of a row is 1. Rows that have the moments of the fit
     (numbers): the square is that of the mean plus the variance. */
  function drawn(law, n, variance) {
    if (n === 0) return new Expected(0, 0, 0, new Map());
    const centre = law ? law.both : 0;
    const square = variance === null ? 1 : centre + variance;
    return new Expected(n, square, met(n, square, centre), law ? kin([[1, law]]) : new Map());
  }

  /* E[mean^2] and E[variance] of generations 0, 1, ..., in units of the true variance; for words
     E[(p - truth)^2] and E[H], in units of the true H. `write` is what the model does to its variance
     before it is sampled; it must be linear. */
  function exact({ workflow, share, size, generations, copies = false, write = (v) => v, ddof = 0 }) {
    const between = [0], within = [1];
    const truth = copies ? null : 1;
    let training = drawn(null, size, truth), pool = training;
    const original = training;
    for (let generation = 1; generation <= generations; generation++) {
      if (generation > 1) {
        const law = training, variance = copies ? null : write(law.variance(ddof));
        [training, pool] = compose[workflow](
          {
            model: (n) => drawn(law, n, variance),
            fresh: (n) => drawn(null, n, truth),
            original, pool, share,
          },
          size,
        );
        const used = new Set([original, training, pool]);
        for (const one of used)
          for (const other of one.akin.keys()) if (!used.has(other)) one.akin.delete(other);
      }
      between.push(training.both);
      within.push(copies ? 1 - training.both : training.variance(ddof));
    }
    return { within, between };
  }

  /* ---- unlimited samples: the loop without chance ---- */

  /* A share of everything, and the averages that a fit needs of it. */
  class Unlimited {
    constructor(n, averages) {
      Object.assign(this, { n, averages });
    }

    join(other) {
      if (!this.n || !other.n) return this.n ? this : other;
      const n = this.n + other.n;
      const mixed = this.averages.map((a, i) => (a * this.n + other.averages[i] * other.n) / n);
      return new Unlimited(n, mixed);
    }

    choose(n) {
      return new Unlimited(n, this.averages);
    }
  }

  /* Averages of generations 0, 1, ...; `write` turns those of a fit into those of its rows. */
  function unlimited({ workflow, share, size, generations, truth, write }) {
    const real = (n) => new Unlimited(n, truth);
    const original = real(size), path = [truth, truth];
    let training = original, pool = original;
    for (let generation = 2; generation <= generations; generation++) {
      const written = write(training.averages);
      const model = (n) => new Unlimited(n, written);
      [training, pool] = compose[workflow]({ model, fresh: real, original, pool, share }, size);
      path.push(training.averages);
    }
    return path;
  }

  Object.assign(machine, { compose, counts, exact, unlimited });
})((globalThis.collapseMachine ??= {}));
