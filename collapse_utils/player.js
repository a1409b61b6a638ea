// The slider player: one range input, one button, and slots (an image, or groups of a drawing) that
// take the parts of a frame. No library, no network.
document.querySelectorAll(".player:not([data-ready])").forEach((player) => {
  player.dataset.ready = "yes";
  const { frames, labels } = JSON.parse(player.querySelector("script").textContent);
  const stage = player.querySelector(".player-frame");
  const slots = "slot" in stage.dataset ? [stage] : [...stage.querySelectorAll("[data-slot]")];
  const slider = player.querySelector("input");
  const button = player.querySelector("button");
  const output = player.querySelector("output");
  let timer = null;

  const show = (index) => {
    slider.value = index;
    slots.forEach((slot, k) => {
      slot[slot === stage ? "src" : "innerHTML"] = frames[index][k];
    });
    output.textContent = labels[index];
    slider.setAttribute("aria-valuetext", labels[index]);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶";
    button.setAttribute("aria-label", "Play");
  };
  const play = () => {
    if (Number(slider.value) === frames.length - 1) show(0);
    // Readers who ask for less motion get one step per press instead of a film.
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      show(Number(slider.value) + 1);
      return;
    }
    button.textContent = "❚❚";
    button.setAttribute("aria-label", "Pause");
    timer = setInterval(() => {
      show(Number(slider.value) + 1);
      if (Number(slider.value) === frames.length - 1) stop();
    }, 450);
  };
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  button.addEventListener("click", () => (timer ? stop() : play()));
  // A browser that restores forms would show another generation's number beside the first image.
  show(0);
});
