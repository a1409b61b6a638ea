/* The collapse machine, part 6: the page. Fills each element with data-collapse-machine; the value
   "small" asks for the version of the front page, and data-preset for what it starts with. */
(function (machine) {
  "use strict";

  const { Run, CanvasPen, Distribution, History, controls, presets, percent, mean } = machine;
  /* Milliseconds from one generation to the next, of work per frame, and between two writings. */
  const PACE = 90, SLICE = 3, READ = 400;

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(properties))
      if (key.includes("-") || key === "for" || key === "role") element.setAttribute(key, value);
      else element[key] = value;
    element.append(...children);
    return element;
  }

  /* Only what has changed, in the text that is there: a new one would cost a layout of its own. */
  function put(element, text) {
    const { firstChild } = element;
    if (!firstChild) element.textContent = text;
    else if (firstChild.data !== text) firstChild.data = text;
  }

  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  class Machine {
    constructor(place) {
      this.place = place;
      this.small = place.dataset.collapseMachine === "small";
      this.root = place.dataset.root ?? "";
      this.shown = 0;
      this.playing = false;
      this.build();
      this.preset = place.dataset.preset ?? "spread";
      const given = !this.small && location.hash.includes("=");
      this.load(given ? machine.fromHash(location.hash) : presets[this.preset].config);
      place.classList.add("machine-live");
      new ResizeObserver(() => this.draw()).observe(this.charts);
      new MutationObserver(() => this.draw()).observe(document.documentElement, {
        attributeFilter: ["data-theme"],
      });
      if (this.small) this.watch();
      else addEventListener("hashchange", () => {
        const { hash } = location, config = machine.fromHash(hash);
        if ((!hash || hash.includes("=")) && machine.toHash(config) !== machine.toHash(this.config))
          this.load(config);
      });
    }

    /* ---- what stands on the page ---- */

    build() {
      const canvas = (label) => make("canvas", { role: "img", "aria-label": label });
      this.density = canvas("Distribution of one lineage against the truth");
      this.ground = canvas("All lineages over generations");
      const [model, over] = [0, 1].map(() => make("canvas", { "aria-hidden": "true" }));
      this.charts = make("div", { className: "machine-charts" },
        make("div", {}, this.density, model), make("div", {}, this.ground, over));
      this.pens = [this.density, model, this.ground, over].map((one) => new CanvasPen(one));
      const button = (text, act) => {
        const one = make("button", { type: "button", textContent: text });
        one.addEventListener("click", act);
        return one;
      };
      this.play = button("Run", () => this.toggle());
      this.play.className = "machine-run";
      this.clock = make("span");
      this.says = make("p", { className: "machine-says" });
      this.live = make("p", { className: "machine-live-region", role: "status" });
      const bar = make("div", { className: "machine-bar" }, this.play);
      const again = button("Reset", () => this.load(this.config));
      const next = button("New seed", () => this.load({ ...this.config, seed: (this.config.seed + 1) % 2 ** 32 }));
      if (!this.small) bar.append(button("Step", () => this.step()));
      bar.append(again, next, make("span", { className: "machine-clock" }, this.clock));
      const key = make("p", { className: "machine-key" });
      for (const [kind, text] of [["truth", "truth"], ["model", "mean of the lineages"], ["shown", "lineage shown"], ["law", ""]]) {
        const name = make("span", { textContent: text });
        if (kind === "law") this.lawName = name;
        key.append(make("span", { className: `machine-${kind}` }, make("i", { "aria-hidden": "true" }), name));
      }
      const app = make("div", { className: "machine-app" });
      if (this.small) {
        app.append(this.charts, key, bar, this.says, this.live);
        this.place.append(app);
        return;
      }
      this.chips = Object.entries(presets).map(([name, { name: text, config }]) => {
        const chip = button(text, () => {
          this.load(config);
          if (!calm()) this.toggle(true);
        });
        chip.dataset.preset = name;
        return chip;
      });
      this.state = [];
      const fact = () => make("div", {}, make("dt"), make("dd", {}, make("b"), make("span")));
      this.facts = make("dl", { className: "machine-facts" }, fact(), fact(), fact());
      this.words = make("p", { className: "machine-words", "aria-hidden": "true" });
      this.code = make("pre", { tabIndex: 0, "aria-label": "Program", role: "group" }, make("code"));
      this.line = make("p", {});
      app.append(
        make("div", { className: "machine-presets", role: "group", "aria-label": "Findings to try" }, ...this.chips),
        this.says, this.charts, key, bar, this.live, this.facts, this.words, this.form(),
        make("details", { className: "machine-real" },
          make("summary", { textContent: "Run it for real" }),
          make("p", { textContent: "The same experiment in Python, with the book's library and a standard error:" }),
          this.code, this.line),
      );
      this.place.append(app);
    }

    form() {
      this.fields = controls.map((control) => this.field(control));
      const lineage = make("input", { type: "range", min: 1, max: 2, step: 1, value: 1, id: "machine-shown" });
      lineage.setAttribute("aria-describedby", "machine-shown-help");
      lineage.addEventListener("input", () => {
        this.shown = lineage.valueAsNumber - 1;
        this.which.textContent = lineage.value;
        this.draw();
        this.tell();
      });
      this.lineage = lineage;
      this.which = make("span", { "aria-hidden": "true" });
      const name = make("label", { for: lineage.id, textContent: "Lineage shown" });
      const box = make("div", { className: "machine-field" },
        make("div", { className: "machine-name" }, name, this.which), lineage,
        make("small", { id: "machine-shown-help", textContent: "Whose distribution is drawn, and whose words are listed." }));
      const form = make("form", { className: "machine-form" },
        ...this.fields.map(({ box: one }) => one), box);
      form.addEventListener("submit", (event) => event.preventDefault());
      return form;
    }

    field(control) {
      const { key, label, choices, value, min, max, step } = control, id = `machine-${key}`;
      let input;
      if (choices) {
        const options = Object.entries(choices).map(([name, [text]]) => new Option(text, name));
        input = make("select", { id }, ...options);
      } else if (typeof value === "boolean") input = make("input", { type: "checkbox", id });
      else input = make("input", { type: key === "seed" ? "number" : "range", id, min, max, step });
      const output = make("span", { "aria-hidden": "true" }), help = make("small", { id: `${id}-help` });
      input.setAttribute("aria-describedby", help.id);
      const read = () => (input.type === "checkbox" ? input.checked : input.value);
      input.addEventListener(input.type === "range" ? "input" : "change", () =>
        this.load({ ...this.config, [key]: read() }));
      const box = make("div", { className: "machine-field" },
        make("div", { className: "machine-name" }, make("label", { for: id, textContent: label }), output), input, help);
      const show = (config) => {
        box.hidden = Boolean(control.of) && !control.of(config);
        if (input.type === "checkbox") input.checked = config[key];
        else if (input.value !== String(config[key])) input.value = config[key];
        output.textContent = input.type === "range" ? config[key] : "";
        help.textContent = choices ? choices[config[key]][1] : control.help(config);
      };
      return { box, show };
    }

    /* ---- the run ---- */

    load(some) {
      this.toggle(false);
      this.config = machine.complete(some);
      this.run = new Run(this.config);
      this.parts = [];
      this.shown = Math.min(this.shown, this.config.lineages - 1);
      const hash = machine.toHash(this.config);
      const preset = Object.entries(presets).find(([, { config }]) => machine.toHash({ ...config, seed: this.config.seed }) === hash);
      this.describe(preset);
      if (this.small) {
        this.draw();
        return;
      }
      for (const { show } of this.fields) show(this.config);
      for (const chip of this.chips)
        chip.setAttribute("aria-pressed", String(chip.dataset.preset === preset?.[0]));
      Object.assign(this.lineage, { max: this.config.lineages, value: this.shown + 1 });
      this.which.textContent = this.shown + 1;
      this.code.firstChild.textContent = machine.program(this.config);
      const line = machine.command(this.config);
      this.line.replaceChildren(...(line ? ["Or the chapter that does it, with your values: ", make("code", { textContent: line })] : []));
      const names = this.run.world.names ?? [];
      this.spans = names.map((name) => make("span", { textContent: name }));
      this.words.replaceChildren(...this.spans.flatMap((span) => [span, " "]));
      /* Not at each step of a slider: browsers allow some hundred new addresses in a while. */
      clearTimeout(this.late);
      this.late = setTimeout(() => {
        if (hash !== "#" || location.hash.includes("=")) history.replaceState(null, "", hash);
      }, 200);
      this.draw();
      this.tell();
    }

    describe(preset) {
      const { law } = this.run;
      this.lawName.textContent = law.exact ? "exact law" : "without chance (unlimited rows)";
      if (!preset) {
        const kind = law.exact ? "By the exact law" : "With unlimited rows";
        this.says.textContent = `${kind} a lineage has ${percent(law.within.at(-1))} of the truth's spread after ${this.config.generations} generations.`;
        return;
      }
      const { says, chapter } = preset[1];
      const link = make("a", { href: `${this.root}notebooks/${chapter}.html`, textContent: "The chapter that proves it" });
      this.says.replaceChildren(says(law) + " ", link);
      if (this.small) this.says.append(" · ", make("a", { href: `${this.root}machine.html`, textContent: "Turn the knobs yourself" }));
    }

    toggle(on = !this.playing) {
      if (on && this.run.finished) this.load(this.config);
      this.playing = on;
      this.play.textContent = on ? "Pause" : "Run";
      if (!on) {
        if (!this.run?.generation) return;
        for (const part of this.parts.splice(0)) part();
        this.spell();
        this.tell();
        return;
      }
      if (this.asked) return;
      this.due = this.reads = 0;
      this.asked = requestAnimationFrame((now) => this.frame(now));
    }

    /* One frame: some work, or one part of what is seen; never two of them. All texts are one part,
       because each paint of the page costs more than what has changed in it. */
    frame(now) {
      this.asked = 0;
      if (!this.playing) return;
      if (this.parts.length) this.parts.shift()();
      else if (this.run.finished) return this.toggle(false);
      else if (now >= this.due) {
        const start = performance.now();
        if (this.run.work(() => performance.now() - start > SLICE)) {
          this.due = calm() ? now : now + PACE;
          if (!calm() || this.run.finished) this.parts = this.picture();
          if (now >= this.reads || this.run.finished) {
            this.parts.push(() => this.spell());
            this.reads = now + READ;
          }
        }
      }
      this.asked = requestAnimationFrame((next) => this.frame(next));
    }

    step() {
      this.toggle(false);
      if (this.run.finished) return;
      while (!this.run.work());
      this.show();
      this.tell();
    }

    /* ---- what is seen ---- */

    colours() {
      const style = getComputedStyle(document.documentElement);
      const get = (name, other) => style.getPropertyValue(name).trim() || other;
      const dark = document.documentElement.dataset.theme === "dark";
      return {
        ink: get("--book-ink", "#1f2328"), quiet: get("--book-quiet", "#57606a"),
        rule: get("--book-rule", "#d9dde2"), truth: "#0a84c6", model: "#d55e00",
        shown: dark ? "#ffc49b" : "#6e2f00",
        truthText: dark ? "#5db8ec" : "#0670a8", modelText: dark ? "#ff9a57" : "#b04c00",
      };
    }

    draw() {
      const width = this.ground.clientWidth, height = this.ground.clientHeight;
      if (!width || !this.run) return;
      this.size = [width, height];
      this.palette = this.colours();
      const [density, , ground, over] = this.pens;
      this.distribution = new Distribution(this.run, width, height);
      this.history = new History(this.run, width, height);
      this.distribution.ground(density, this.palette);
      this.history.ground(ground, this.palette);
      this.history.over(over, this.palette);
      this.drawn = 0;
      this.show();
    }

    show() {
      this.parts = [];
      for (const part of this.picture()) part();
      this.spell();
    }

    /* The parts of the picture of this generation, each of them the work of a frame. */
    picture() {
      const [, model, ground] = this.pens, { generation } = this.run;
      if (!this.size) return [];
      return [
        () => this.distribution.model(model, this.palette, this.shown),
        () => {
          this.history.lineages(ground, this.palette, this.drawn, generation, this.shown);
          this.drawn = generation;
        },
      ];
    }

    /* What is written: the generation, the words that are gone, and three facts. */
    spell() {
      const { generation, config, law, within, between, lineages, world } = this.run;
      const { fitted } = lineages[this.shown];
      put(this.clock, `generation ${generation} of ${config.generations}`);
      if (this.small) return;
      for (const [i, span] of this.spans.entries()) {
        const gone = generation > 0 && fitted.shares[i] === 0;
        if (span.classList.contains("gone") !== gone) span.classList.toggle("gone", gone);
      }
      const kind = law.exact ? "law" : "without chance";
      const fact = (name, measured, expected) =>
        [name, percent(mean(measured[generation])), `${kind}: ${percent(expected[generation])}`];
      this.state = [
        fact("Spread within a lineage", within, law.within),
        fact("Distance from the truth", between, law.between),
        this.dead(generation, fitted, world),
      ];
      for (const [k, [name, value, more]] of this.state.entries()) {
        const [dt, dd] = this.facts.children[k].children;
        put(dt, name);
        put(dd.firstChild, value);
        put(dd.lastChild, more);
      }
    }

    /* What has died: words, bins, or whole lineages. */
    dead(generation, fit, world) {
      const count = (full) => String(generation ? fit.alive : full), of = `lineage ${this.shown + 1}`;
      if (world.bins) {
        const there = world.p.filter((p) => p > 1e-3).length;
        return [`Bins in use, ${of}`, count(there), `${there} hold more than a row in 1,000 of the truth`];
      }
      if (world.p) return [`Words alive, ${of}`, count(world.p.length), `of ${world.p.length} words`];
      const still = this.run.within[generation].filter((v) => v >= 0.01).length;
      return ["Lineages alive", String(still), `of ${this.config.lineages} with a tenth or more of the true standard deviation`];
    }

    /* The state in words, when something has been decided, not in every frame. */
    tell() {
      const { generation, config, law } = this.run;
      if (this.small) {
        this.live.textContent = generation ? `Generation ${generation}: ${percent(mean(this.run.within[generation]))} of the spread left, expected ${percent(law.within[generation])}.` : "";
        return;
      }
      if (!this.state.length) return;
      const facts = this.state.map(([name, value, more]) => `${name}: ${value}, ${more}.`);
      const text = [`Generation ${generation} of ${config.generations}.`, ...facts].join(" ");
      this.live.textContent = text;
      const of = `generation ${generation}`;
      this.ground.setAttribute("aria-label", `${config.lineages} lineages up to ${of}. ${text}`);
      this.density.setAttribute("aria-label", `Distribution of lineage ${this.shown + 1} at ${of} against the truth.`);
    }

    /* The small version plays while it is seen, unless the reader wants no motion or has paused it. */
    watch() {
      let stopped = false;
      this.play.addEventListener("click", () => (stopped = !this.playing));
      new IntersectionObserver(([entry]) => {
        if (calm()) {
          if (!this.run.generation) {
            this.run.finish();
            this.draw();
            this.tell();
          }
        } else if (!entry.isIntersecting) this.toggle(false);
        else if (!stopped && !this.run.finished) this.toggle(true);
      }, { threshold: 0.4 }).observe(this.place);
    }
  }

  function start() {
    for (const place of document.querySelectorAll("[data-collapse-machine]")) new Machine(place);
  }
  machine.Machine = Machine;
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})((globalThis.collapseMachine ??= {}));
