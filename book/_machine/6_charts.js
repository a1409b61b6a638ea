/* The collapse machine, part 5: two charts. They are drawn with a pen that has a canvas, or one that
   writes SVG, for the picture on paper. */
(function (machine) {
  "use strict";

  const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';

  class CanvasPen {
    constructor(canvas) {
      this.canvas = canvas;
      this.context = canvas.getContext("2d");
    }

    /* Clears, and fits the picture to its box. */
    clear(width, height) {
      const scale = Math.min(2, devicePixelRatio);
      const wide = Math.round(width * scale), high = Math.round(height * scale);
      if (this.canvas.width !== wide || this.canvas.height !== high)
        Object.assign(this.canvas, { width: wide, height: high });
      this.context.setTransform(scale, 0, 0, scale, 0, 0);
      this.context.clearRect(0, 0, width, height);
    }

    /* Lines, each a list x, y, x, y, ..., in one stroke. */
    lines(all, { colour, width = 1, dash = [], alpha = 1, cap = "butt", inside = null }) {
      const { context } = this;
      context.save();
      if (inside) {
        context.beginPath();
        context.rect(inside.left, inside.top, inside.right - inside.left, inside.bottom - inside.top);
        context.clip();
      }
      context.beginPath();
      for (const points of all) {
        context.moveTo(points[0], points[1]);
        for (let i = 2; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
      }
      Object.assign(context, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha, lineCap: cap, lineJoin: "round" });
      context.setLineDash(dash);
      context.stroke();
      context.restore();
    }

    area(points, { colour, alpha = 1 }) {
      const { context } = this;
      context.beginPath();
      context.moveTo(points[0], points[1]);
      for (let i = 2; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
      Object.assign(context, { fillStyle: colour, globalAlpha: alpha });
      context.fill();
      context.globalAlpha = 1;
    }

    text(x, y, words, { colour, align = "left" }) {
      Object.assign(this.context, { fillStyle: colour, textAlign: align, font: `12px ${FONT}` });
      this.context.fillText(words, x, y);
    }
  }

  class SvgPen {
    parts = [];

    clear() {}

    path(points) {
      let d = "";
      for (let i = 0; i < points.length; i += 2)
        d += `${i ? "L" : "M"}${points[i].toFixed(1)} ${points[i + 1].toFixed(1)}`;
      return d;
    }

    lines(all, { colour, width = 1, dash = [], alpha = 1, inside = null }) {
      const d = all.map((points) => this.path(points)).join("");
      const dashes = dash.length ? ` stroke-dasharray="${dash}"` : "";
      const path = `<path d="${d}" fill="none" stroke="${colour}" stroke-width="${width}" opacity="${alpha}"${dashes}/>`;
      if (!inside) return this.parts.push(path);
      const { left, top, right, bottom } = inside, size = [right - left, bottom - top];
      this.parts.push(
        `<svg x="${left}" y="${top}" width="${size[0]}" height="${size[1]}" ` +
          `viewBox="${left} ${top} ${size[0]} ${size[1]}">${path}</svg>`,
      );
    }

    area(points, { colour, alpha = 1 }) {
      this.parts.push(`<path d="${this.path(points)}Z" fill="${colour}" opacity="${alpha}"/>`);
    }

    text(x, y, words, { colour, align = "left" }) {
      const anchor = { left: "start", right: "end", center: "middle" }[align];
      this.parts.push(`<text x="${x}" y="${y}" fill="${colour}" text-anchor="${anchor}">${words}</text>`);
    }
  }

  const BOX = { left: 38, right: 12, top: 26, bottom: 34 };

  /* From values to places in a box of a size. */
  function scales(width, height, [x0, x1], [y0, y1]) {
    const w = width - BOX.left - BOX.right, h = height - BOX.top - BOX.bottom;
    return {
      x: (v) => BOX.left + ((v - x0) / (x1 - x0)) * w,
      y: (v) => BOX.top + h - ((v - y0) / (y1 - y0)) * h,
      left: BOX.left, right: width - BOX.right, top: BOX.top, bottom: height - BOX.bottom,
    };
  }

  function ticks(low, high, most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough - 1e-12);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) found.push(k * step);
    return found.map((value) => Number(value.toFixed(6)));
  }

  function frame(pen, at, colours, xs, ys, labels) {
    for (const v of ys) {
      pen.lines([[at.left, at.y(v), at.right, at.y(v)]], { colour: colours.rule });
      pen.text(at.left - 6, at.y(v) + 4, String(v), { colour: colours.quiet, align: "right" });
    }
    for (const v of xs)
      pen.text(at.x(v), at.bottom + 15, String(v).replace("-", "−"), { colour: colours.quiet, align: "center" });
    pen.text(at.right, at.bottom + 30, labels.x, { colour: colours.quiet, align: "right" });
    pen.text(2, 14, labels.y, { colour: colours.ink });
  }

  /* ---- all lineages over generations ---- */

  class History {
    constructor(run, width, height) {
      this.run = run;
      const { law, config } = run;
      const top = Math.min(6, Math.max(2, 1.25 * Math.max(...law.within)));
      this.top = run.world.p ? 1.15 : top;
      this.size = [width, height];
      this.at = scales(width, height, [0, config.generations], [0, this.top]);
    }

    ground(pen, colours) {
      pen.clear(...this.size);
      const { config, world } = this.run, { at } = this;
      let what = "variance in a lineage";
      if (world.p) what = world.bins ? "chance of different bins" : "chance that two words differ";
      frame(pen, at, colours, ticks(0, config.generations, 6), ticks(0, this.top, 5), {
        x: "generation",
        y: `${what}, truth = 1`,
      });
      pen.lines([[at.left, at.y(1), at.right, at.y(1)]], { colour: colours.truth, width: 1.6 });
    }

    /* The part between two generations: all lineages, the one that is shown beside, and the mean. */
    lineages(pen, colours, from, to, shown) {
      if (to <= from) return;
      const { within, config } = this.run, { at } = this;
      const line = (value) => {
        const points = [];
        for (let g = from; g <= to; g++) points.push(at.x(g), at.y(value(within[g])));
        return points;
      };
      const all = Array.from({ length: config.lineages }, (_, i) => line((row) => row[i]));
      const alpha = Math.max(0.12, Math.min(0.5, 12 / config.lineages)), joined = { cap: "round", inside: at };
      pen.lines(all, { colour: colours.model, alpha, inside: at });
      pen.lines([all[shown]], { colour: colours.shown, width: 1.5, ...joined });
      pen.lines([line(mean)], { colour: colours.model, width: 2.6, ...joined });
    }

    /* The law, above all that is drawn later. */
    over(pen, colours) {
      pen.clear(...this.size);
      const { law } = this.run, { at } = this, dash = law.exact ? [6, 4] : [2, 3];
      const points = law.within.flatMap((value, g) => [at.x(g), at.y(value)]);
      pen.lines([points], { colour: colours.ink, width: 1.6, dash, inside: at });
    }
  }

  function mean(values) {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += values[i];
    return sum / values.length;
  }

  /* ---- the distribution of one lineage ---- */

  class Distribution {
    constructor(run, width, height) {
      const { world } = run;
      this.run = run;
      this.size = [width, height];
      this.words = Boolean(world.p && !world.bins);
      if (this.words) {
        this.top = Math.sqrt(Math.min(1, Math.max(0.25, 2.5 * world.p[0])));
        this.at = scales(width, height, [0.5, world.p.length + 0.5], [0, this.top]);
        this.truth = Array.from(world.p).flatMap((share, i) => [this.at.x(i + 1), this.at.y(Math.sqrt(share))]);
        return;
      }
      const [low, high] = world.truth.range, steps = 120;
      this.xs = Array.from({ length: steps + 1 }, (_, i) => low + (i * (high - low)) / steps);
      const truth = this.xs.map(world.truth.pdf);
      this.top = 2.2 * Math.max(...truth);
      this.at = scales(width, height, [low, high], [0, this.top]);
      this.truth = this.xs.flatMap((x, i) => [this.at.x(x), this.at.y(truth[i])]);
    }

    /* What stays: the axes and the truth. */
    ground(pen, colours) {
      pen.clear(...this.size);
      const { at, top, truth, run } = this;
      if (this.words) {
        const grades = [0, 0.01, 0.05, 0.2, 0.5, 1].filter((v) => Math.sqrt(v) <= top);
        frame(pen, { ...at, y: (v) => at.y(Math.sqrt(v)) }, colours, ticks(1, run.world.p.length, 6), grades, {
          x: "word, by its true rank", y: "share of the rows",
        });
      } else {
        frame(pen, at, colours, ticks(...run.world.truth.range, 6), ticks(0, top, 4), { x: "value", y: "density" });
        pen.area([at.left, at.bottom, ...truth, at.right, at.bottom], { colour: colours.truth, alpha: 0.18 });
        pen.lines([truth], { colour: colours.truth, width: 1.6 });
      }
      pen.text(at.right, 14, "truth", { colour: colours.truthText, align: "right" });
      pen.text(at.right - 40, 14, "model", { colour: colours.modelText, align: "right" });
    }

    /* The model of this generation; with words the truth is a line above its bars. */
    model(pen, colours, shown) {
      pen.clear(...this.size);
      const { at, run, xs } = this, fit = run.generation ? run.lineages[shown].fitted : null;
      if (this.words) {
        const bars = [];
        fit?.shares.forEach((share, i) => {
          if (share > 0) bars.push([at.x(i + 1), at.bottom, at.x(i + 1), at.y(Math.sqrt(share))]);
        });
        const wide = Math.max(1, Math.min(12, (0.72 * (at.right - at.left)) / run.world.p.length));
        pen.lines(bars, { colour: colours.model, width: wide, inside: at });
        pen.lines([this.truth], { colour: colours.truth, width: 1.8 });
      } else if (fit) {
        const { ends, density } = run.world, pdf = density(fit);
        const points = ends ?? narrow(xs, fit);
        pen.lines([points.flatMap((x) => [at.x(x), at.y(pdf(x))])], { colour: colours.model, width: 2.2, inside: at });
      }
    }
  }

  /* More points where a fit has become narrow. */
  function narrow(xs, { mean: centre, variance }) {
    const sd = Math.sqrt(variance), more = [];
    for (let z = -5; z <= 5; z += 0.25) {
      const x = centre + z * sd;
      if (x > xs[0] && x < xs.at(-1)) more.push(x);
    }
    return [...xs, ...more].sort((a, b) => a - b);
  }

  /* Both charts of a run that is finished, one above the other, in colours for any paper. */
  function picture(run) {
    const colours = {
      truth: "#0a84c6", model: "#d55e00", shown: "#8a3c00", ink: "#6a717a", quiet: "#737a83",
      rule: "#9aa1a944", truthText: "#0a84c6", modelText: "#d55e00",
    };
    const [width, height] = [380, 280], history = new History(run, width, height);
    const left = new SvgPen(), right = new SvgPen(), distribution = new Distribution(run, width, height);
    distribution.ground(left, colours);
    distribution.model(left, colours, 0);
    history.ground(right, colours);
    history.lineages(right, colours, 0, run.generation, 0);
    history.over(right, colours);
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * width + 20} ${height}" ` +
      `font-family='${FONT}' font-size="12">${left.parts.join("")}` +
      `<g transform="translate(${width + 20} 0)">${right.parts.join("")}</g></svg>\n`
    );
  }

  Object.assign(machine, { CanvasPen, History, Distribution, picture, mean });
})((globalThis.collapseMachine ??= {}));
