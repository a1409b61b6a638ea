/* The collapse machine, part 4: what can be set and what each of it means, presets, the address that
   keeps a state, and the same experiment as a program. */
(function (machine) {
  "use strict";

  const NUMBERS = ["gaussian", "one"], WORDS = ["english", "zipf"];

  /* For each control: key in the address, name, kind, and what it means. `of` says when it counts. */
  const controls = [
    {
      key: "world", label: "World", value: "gaussian",
      choices: {
        gaussian: ["A Gaussian", "One bell, and the model is a bell too: the right family."],
        english: ["English words", "The most frequent words of English with their frequencies."],
        zipf: ["Words by Zipf's law", "The word of rank r has a share in proportion to r to a power."],
        one: ["Two Gaussians, one fitted", "The wrong family: two hills, and a model with one."],
        kernel: ["Two Gaussians, kernels", "A small bump on every row follows any shape."],
        histogram: ["Two Gaussians, histogram", "The share of rows in each bin, flat inside it."],
      },
    },
    {
      key: "workflow", label: "Workflow", value: "replace",
      choices: {
        replace: ["Replace", "Each generation learns from rows of the last one and nothing else."],
        accumulate: ["Accumulate", "All earlier rows stay, and new ones are added."],
        budget: ["Fixed budget", "All rows stay, but a generation learns from a random part of them."],
        fresh: ["Fresh real rows", "A share of the rows is real and was never seen before."],
        keep: ["Kept original rows", "A share of the rows is chosen from the first, real data set."],
      },
    },
    {
      key: "share", label: "Share of real rows", value: 0.1, min: 0, max: 1, step: 0.01,
      of: (c) => c.workflow === "fresh" || c.workflow === "keep",
      help: (c) =>
        `${machine.counts(c.workflow, c.share, c.size).real} of ${c.size} rows in each generation.`,
    },
    {
      key: "size", label: "Rows per generation", value: 20, min: 2, max: 500, step: 1,
      help: () => "The size of the sample that a model learns from.",
    },
    {
      key: "lineages", label: "Lineages", value: 100, min: 2, max: 200, step: 1,
      help: () => "The loop is run so many times, side by side, by chance alone.",
    },
    {
      key: "generations", label: "Generations", value: 60, min: 5, max: 100, step: 1,
      help: () => "How often a model learns from what the last one wrote.",
    },
    {
      key: "estimator", label: "Variance is", value: "ml", of: (c) => NUMBERS.includes(c.world),
      choices: {
        ml: ["divided by n", "Maximum likelihood: too small by one part in n."],
        unbiased: ["divided by n − 1", "Unbiased: right on average, and still it collapses."],
      },
    },
    {
      key: "temperature", label: "Temperature", value: 1, min: 0.5, max: 1.5, step: 0.01,
      of: (c) => [...NUMBERS, ...WORDS].includes(c.world),
      help: () => "The model writes with its probabilities to the power 1/T: below 1 is cold.",
    },
    {
      key: "check", label: "Quality check", value: false, of: (c) => NUMBERS.includes(c.world),
      help: () => "A checker passes rows near its centre; only what passes is learnt from.",
    },
    {
      key: "centre", label: "Centre of the check", value: 1, min: -3, max: 3, step: 0.1,
      of: (c) => c.check && NUMBERS.includes(c.world),
      help: () => "What the checker takes for good. The truth has its mean at 0.",
    },
    {
      key: "width", label: "Width of the check", value: 2, min: 0.3, max: 10, step: 0.1,
      of: (c) => c.check && NUMBERS.includes(c.world),
      help: () => "At this distance from the centre three rows in five pass.",
    },
    {
      key: "bandwidth", label: "Bandwidth", value: 0.3, min: 0.1, max: 1.5, step: 0.05,
      of: (c) => c.world === "kernel",
      help: () => "The width of the bump on each row. It is added anew in every generation.",
    },
    {
      key: "bin", label: "Width of a bin", value: 0.5, min: 0.1, max: 2, step: 0.1,
      of: (c) => c.world === "histogram",
      help: () => "An empty bin stays empty, as a dead word stays dead.",
    },
    {
      key: "words", label: "Words", value: 120, min: 2, max: 240, step: 1,
      of: (c) => WORDS.includes(c.world),
      help: () => "How many different words the truth has.",
    },
    {
      key: "exponent", label: "Zipf's exponent", value: 1, min: 0, max: 2, step: 0.05,
      of: (c) => c.world === "zipf",
      help: () => "0: all words are equally likely. 1: roughly as in English.",
    },
    {
      key: "seed", label: "Seed", value: 1, min: 0, max: 4294967295, step: 1,
      help: () => "The same seed gives the same lineages, number by number.",
    },
  ];

  const defaults = Object.fromEntries(controls.map(({ key, value }) => [key, value]));

  /* A value as a control takes it; what is no value of it becomes the default. */
  function valid(control, text) {
    const { value, choices, min, max, step } = control;
    if (choices) return Object.hasOwn(choices, text) ? text : value;
    if (typeof value === "boolean") return text === true || text === "true";
    const number = Number(text);
    if (text === "" || !Number.isFinite(number)) return value;
    const steps = Math.round((Math.min(max, Math.max(min, number)) - min) / step);
    return Number((min + steps * step).toFixed(4));
  }

  function complete(some) {
    const all = controls.map((c) => [c.key, Object.hasOwn(some, c.key) ? valid(c, some[c.key]) : c.value]);
    return Object.fromEntries(all);
  }

  /* What differs from the defaults and counts, as the part of an address after "#". */
  function toHash(config) {
    const said = controls.filter((c) => config[c.key] !== c.value && (!c.of || c.of(config)));
    return "#" + new URLSearchParams(said.map(({ key }) => [key, config[key]]));
  }

  const fromHash = (hash) => complete(Object.fromEntries(new URLSearchParams(hash.slice(1))));

  /* ---- presets ---- */

  function percent(x) {
    if (x >= 1000) return "over 100,000 %";
    return (100 * x).toFixed(100 * x < 10 ? 1 : 0) + " %";
  }
  const last = (law) => law.within[law.within.length - 1];

  /* `says` is given the law of the preset, so that no number is typed. `chapter` proves it. */
  const presets = {
    spread: {
      name: "A lost spread", chapter: "gaussian", set: { size: 20 },
      says: (law) =>
        `A Gaussian that is refitted to 20 of its own rows forgets its spread: after 60 generations ` +
        `${percent(last(law))} of the variance is expected to be left.`,
    },
    five: {
      name: "Five real rows", chapter: "keep",
      set: { world: "english", workflow: "fresh", size: 100, share: 0.05, generations: 100 },
      says: (law) => {
        const larger = machine.exact({
          workflow: "fresh", share: 0.01, size: 500, generations: 1000, copies: true,
        });
        return (
          `Five fresh real rows in each generation of 100 keep ${percent(last(law))} of the chance ` +
          `that two words differ. Five among 500 would keep ${percent(last(larger))} for ever: the ` +
          `number counts, not the share.`
        );
      },
    },
    rare: {
      name: "Rare words die first", chapter: "words",
      set: { world: "english", size: 200, generations: 100 },
      says: (law) =>
        `Each page is counted, and the next one is drawn from the counts. The rare words go first, and ` +
        `none comes back. The chance that two words differ takes longer: ${percent(last(law))} of it ` +
        `is expected to be left after 100 pages.`,
    },
    one: {
      name: "One Gaussian for two", chapter: "one_for_two",
      set: { world: "one", size: 500, generations: 30 },
      says: (law) =>
        `One Gaussian in the place of two makes its whole error at the first generation: the valley is ` +
        `filled. Afterwards only the finite sample is at work: ${percent(last(law))} of the variance ` +
        `is expected after 30 generations.`,
    },
    kernel: {
      name: "A smoother that spreads", chapter: "too_expressive",
      set: { world: "kernel", size: 200, bandwidth: 0.4, generations: 60 },
      says: (law) =>
        `A kernel estimate starts close to the truth and adds its bandwidth again in every generation: ` +
        `after 60 the variance is expected to be ${percent(last(law))} of the true one.`,
    },
    histogram: {
      name: "Bins that empty", chapter: "too_expressive",
      set: { world: "histogram", size: 60, bin: 0.3, generations: 60 },
      says: (law) =>
        `The bins of a histogram are words: an empty one stays empty. After 60 generations of 60 rows ` +
        `${percent(last(law))} of the chance that two rows fall into different bins is expected.`,
    },
    accumulate: {
      name: "Keep everything", chapter: "keep", set: { workflow: "accumulate", size: 20 },
      says: (law) =>
        `If all rows stay, the loss stops: ${percent(last(law))} of the variance is expected after 60 ` +
        `generations, and hardly less after any number of them.`,
    },
    cold: {
      name: "Cold sampling", chapter: "keep",
      set: { temperature: 0.9, size: 200, generations: 40 },
      says: (law) =>
        `A model that writes at temperature 0.9 narrows its own output each time. With 200 rows chance ` +
        `does little, and still ${percent(last(law))} of the variance is expected after 40 generations.`,
    },
    check: {
      name: "A checker who is wrong", chapter: "quality",
      set: { check: true, centre: 0.5, width: 2, size: 500, generations: 40 },
      says: (law) => {
        const mean = Math.sqrt(law.between[law.between.length - 1]);
        return (
          `Only what a checker likes is learnt from, and the checker believes the mean is 0.5. Without any ` +
          `chance the mean moves from 0 to ${mean.toFixed(2)} in 40 generations, and ` +
          `${percent(last(law))} of the variance is left.`
        );
      },
    },
  };
  for (const preset of Object.values(presets)) preset.config = complete(preset.set);

  /* ---- the same, for real ---- */

  const WORKFLOWS = {
    replace: () => ["Replace", "Replace()"],
    accumulate: () => ["Accumulate", "Accumulate()"],
    budget: () => ["AccumulateSubsample", "AccumulateSubsample()"],
    fresh: (c) => ["FreshData", `FreshData(${c.share})`],
    keep: (c) => ["Mix", `Mix(alpha=${Number((1 - c.share).toFixed(2))}, gamma=${c.share})`],
  };

  function numbersProgram(c, two) {
    const cold = c.temperature !== 1;
    return {
      imports: ["from collapse_utils.models.gaussian import Gaussian"],
      define: [
        ...(cold
          ? ["class Tempered(Gaussian):",
             "    def sample(self, n, rng):",
             `        centre, scale = self.mean_[0], ${c.temperature}**0.5`,
             "        return centre + scale * (super().sample(n, rng) - centre)", "", ""]
          : []),
        "def truth(n, rng):",
        two ? "    return rng.choice([-2.0, 2.0], n) + rng.standard_normal(n)"
            : "    return rng.standard_normal(n)",
      ],
      model: `${cold ? "Tempered" : "Gaussian"}(ddof=${c.estimator === "unbiased" ? 1 : 0})`,
      measure: `float(s.model.cov_[0, 0]) / ${two ? 5 : 1}`,
    };
  }

  function wordsProgram(c, define) {
    const cold = c.temperature !== 1;
    return {
      imports: ["from collapse_utils.models.words import Categorical" + (c.world === "zipf" ? ", zipf" : "")],
      define: [
        ...define,
        "H = 1 - p @ p", "", "",
        ...(cold
          ? ["class Tempered(Categorical):",
             "    def sample(self, n, rng):",
             `        weights = self.p_ ** (1 / ${c.temperature})`,
             "        return rng.choice(len(weights), n, p=weights / weights.sum())", "", ""]
          : []),
        "def truth(n, rng):",
        "    return rng.choice(len(p), n, p=p)",
      ],
      model: `${cold ? "Tempered" : "Categorical"}(len(p))`,
      measure: "float(1 - s.model.p_ @ s.model.p_) / H",
    };
  }

  const PROGRAMS = {
    gaussian: (c) => numbersProgram(c, false),
    one: (c) => numbersProgram(c, true),
    zipf: (c) => wordsProgram(c, [`p = zipf(${c.words}, ${c.exponent})`]),
    english(c) {
      const levels = machine.english.slice(0, c.words).map((w) => Math.round(-100 * Math.log10(w.frequency)));
      const lines = [];
      for (let i = 0; i < levels.length; i += 20) lines.push("    " + levels.slice(i, i + 20).join(", ") + ",");
      return wordsProgram(c, [
        "# Frequencies of English words, -100 log10, from wordfreq 3.1.1 (CC BY-SA 4.0)",
        "levels = [", ...lines, "]",
        "p = 10.0 ** (-np.array(levels) / 100)", "p /= p.sum()",
      ]);
    },
    kernel: (c) => ({
      imports: ["from sklearn.neighbors import KernelDensity"],
      define: ["def truth(n, rng):", "    return (rng.choice([-2.0, 2.0], n) + rng.standard_normal(n))[:, None]"],
      model: `KernelDensity(bandwidth=${c.bandwidth})`,
      measure: `(float(s.training.var()) + ${c.bandwidth}**2) / 5`,
      first: "1.0",
    }),
    histogram: (c) => ({
      imports: ["from scipy.stats import norm", "from collapse_utils.models.words import Categorical"],
      define: [
        `edges = np.arange(-${Math.ceil(10 / c.bin)}, ${Math.ceil(10 / c.bin)} + 1) * ${c.bin}`,
        "p = np.diff((norm.cdf(edges, -2) + norm.cdf(edges, 2)) / 2)",
        "p /= p.sum()", "H = 1 - p @ p", "", "",
        "def truth(n, rng):  # the bin of each row",
        "    return rng.choice(len(p), n, p=p)",
      ],
      model: "Categorical(len(p))",
      measure: "float(1 - s.model.p_ @ s.model.p_) / H",
    }),
  };

  /* A Python program that runs a state with uncertainty. */
  function program(c) {
    const { imports, define, model, measure } = PROGRAMS[c.world](c);
    let [name, workflow] = WORKFLOWS[c.workflow](c);
    const more = [...imports];
    if (c.check && NUMBERS.includes(c.world)) {
      workflow = `Verified(${workflow}, Soft(${c.centre}, ${c.width}), max_draws=10_000)`;
      more.push("from collapse_utils.workflows import Soft, Verified");
    }
    return [
      "import numpy as np", ...more.filter((line) => !line.startsWith("from collapse_utils")),
      "",
      `from collapse_utils import ${name}, mean_se, recurse`,
      ...more.filter((line) => line.startsWith("from collapse_utils")),
      "", "",
      ...define,
      "", "",
      "def spread(s):",
      `    return ${measure} if s.model else 1.0`,
      "", "",
      "history = recurse(",
      `    ${model},`,
      "    truth,",
      `    workflow=${workflow},`,
      `    n_samples=${c.size},`,
      `    n_generations=${c.generations},`,
      `    n_replicates=${c.lineages},`,
      '    metrics={"spread": spread},',
      `    rng=np.random.default_rng(${c.seed}),`,
      ")",
      'mean, error = mean_se(history.array("spread"))',
      'print(f"spread within a lineage: {mean[-1]:.3f} ± {error[-1]:.3f} of the truth")',
    ].join("\n");
  }

  /* The chapter that runs a state's world, with its parameters, where it takes them. */
  function command(c) {
    const chapters = {
      gaussian: c.check
        ? ["quality", { n_samples: [c.size, 10], n_generations: [c.generations, 20], centre: [c.centre, -0.5, 0.5], tau: [c.width, 0.2] }]
        : ["gaussian", { n_samples: [c.size, 3] }],
      zipf: ["words", { n_samples: [c.size, 50], n_symbols: [c.words, 20], exponent: [c.exponent, 0] }],
      one: ["one_for_two", { n_samples: [c.size, 50], n_generations: [c.generations, 10] }],
      kernel: ["too_expressive", { n_samples: [c.size, 20], n_generations: [c.generations, 10], bandwidth: [c.bandwidth, 0.01, 0.5] }],
    };
    const kept = ["keep", { n_samples: [c.size, 20], n_generations: [c.generations, 4] }];
    const found = c.workflow === "replace" ? chapters[c.world] : c.world === "gaussian" && kept;
    if (!found || (c.temperature !== 1 && c.world !== "kernel")) return null;
    const [chapter, parameters] = found, all = Object.entries(parameters);
    if (all.some(([, [value, low, high = Infinity]]) => value < low || value > high)) return null;
    return `collapse-book run ${chapter}` + all.map(([key, [value]]) => ` -p ${key} ${value}`).join("");
  }

  Object.assign(machine, { controls, complete, toHash, fromHash, presets, program, command, percent });
})((globalThis.collapseMachine ??= {}));
