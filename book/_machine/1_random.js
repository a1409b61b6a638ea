/* The collapse machine, part 1: chance. Classic scripts that share one object, so that the page works
   from a folder too, where browsers refuse modules. Nothing is fetched and nothing is stored.

   Generator: xoshiro128** (Blackman and Vigna 2021), its state filled by splitmix32. Each lineage has
   a stream of its own, so that a seed gives the same lineages however they are interleaved. */
(function (machine) {
  "use strict";

  function splitmix32(state) {
    return () => {
      state = (state + 0x9e3779b9) | 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) >>> 0;
    };
  }

  class Random {
    constructor(seed, stream = 0) {
      const first = splitmix32(seed);
      first();
      const next = splitmix32(first() ^ Math.imul(stream + 1, 0x85ebca6b));
      [this.a, this.b, this.c, this.d] = [next(), next(), next(), next() | 1];
      this.spare = null;
    }

    /* A whole number from 0 to 2^32 - 1. */
    bits() {
      const x = Math.imul(this.b, 5);
      const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
      const t = this.b << 9;
      this.c ^= this.a;
      this.d ^= this.b;
      this.b ^= this.c;
      this.a ^= this.d;
      this.c ^= t;
      this.d = (this.d << 11) | (this.d >>> 21);
      return result;
    }

    /* Between 0 and 1, neither of them. */
    uniform() {
      return (this.bits() + 0.5) / 4294967296;
    }

    /* A whole number from 0 to n - 1. */
    below(n) {
      return Math.floor((this.bits() / 4294967296) * n);
    }

    /* Standard normal, by the polar method (Marsaglia and Bray 1964). */
    normal() {
      if (this.spare !== null) {
        const kept = this.spare;
        this.spare = null;
        return kept;
      }
      let x, y, square;
      do {
        x = 2 * this.uniform() - 1;
        y = 2 * this.uniform() - 1;
        square = x * x + y * y;
      } while (square >= 1 || square === 0);
      const scale = Math.sqrt((-2 * Math.log(square)) / square);
      this.spare = y * scale;
      return x * scale;
    }
  }

  machine.Random = Random;
})((globalThis.collapseMachine ??= {}));
