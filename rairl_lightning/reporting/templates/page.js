"use strict";
// Values of a token under the pointer, at a tap, or by the arrow keys; values of a chart at the pointer.
(() => {
  const tip = document.getElementById("tip");
  let on = null;

  const columns = (trace) => {
    if (!trace.values) {
      const read = (name) => JSON.parse(trace.dataset[name] || "[]");
      trace.values = { reward: read("reward"), logprob: read("logprob"), step: read("step") };
      trace.tokens = [...trace.querySelectorAll("i")];
    }
    return trace.values;
  };

  const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(3).replace("-", "−");

  const said = (trace, place, token) => {
    const { reward, logprob, step } = columns(trace);
    const parts = [`token ${place + 1} of ${trace.tokens.length}`];
    if (step[place]) parts.push(`step ${step[place]}`);
    if (reward[place] != null) {
      parts.push(`reward ${signed(reward[place])}${token.classList.contains("g") ? ", read here" : ""}`);
    }
    if (logprob[place] != null) parts.push(`log-probability ${signed(logprob[place])}`);
    if (token.classList.contains("t")) parts.push("changed here");
    if (token.classList.contains("p")) parts.push("largest drop of the reward");
    if (token.classList.contains("q")) parts.push("largest drop of the log-probability");
    return parts.join(" · ");
  };

  const hide = () => {
    if (on) on.classList.remove("on");
    on = null;
    tip.hidden = true;
  };

  const show = (token) => {
    const trace = token.closest(".trace[data-reward]");
    if (!trace || token === on) return;
    columns(trace);
    hide();
    on = token;
    token.classList.add("on");
    trace.at = trace.tokens.indexOf(token);
    tip.textContent = said(trace, trace.at, token);
    tip.hidden = false;
    const box = token.getClientRects()[0] || token.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left), innerWidth - tip.offsetWidth - 8);
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 0 ? above : box.bottom + 8}px`;
  };

  const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 };
  document.addEventListener("pointerover", (event) => {
    if (event.target.matches(".trace[data-reward] i")) show(event.target);
    else if (on) hide();
  });
  document.addEventListener("click", (event) => {
    if (event.target.matches(".trace[data-reward] i")) show(event.target);
    else hide();
  });
  document.addEventListener("scroll", hide, { capture: true, passive: true });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const trace = document.activeElement;
    if (!trace || !trace.matches(".trace[data-reward]")) return;
    columns(trace);
    const last = trace.tokens.length - 1;
    const at = trace.at ?? -1;
    const to = event.key === "Home" ? 0 : event.key === "End" ? last : event.key in STEPS ? at + STEPS[event.key] : null;
    if (to === null || last < 0) return;
    event.preventDefault();
    const token = trace.tokens[Math.min(last, Math.max(0, to))];
    token.scrollIntoView({ block: "nearest", behavior: "instant" });
    requestAnimationFrame(() => requestAnimationFrame(() => show(token)));
  });

  for (const figure of document.querySelectorAll(".chart")) {
    const svg = figure.querySelector("svg");
    const output = figure.querySelector("output");
    const [, , width] = svg.getAttribute("viewBox").split(" ").map(Number);
    let lines = null;
    svg.addEventListener("pointermove", (event) => {
      lines ??= JSON.parse(figure.dataset.hover).map((line, index) => {
        const path = [...figure.querySelectorAll("svg[role=img] g")][index].querySelector("path");
        const places = path ? path.getAttribute("d").slice(1).split("L").map((pair) => Number(pair.split(" ")[0])) : [];
        return { ...line, places };
      });
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * width;
      output.textContent = lines
        .filter((line) => line.places.length)
        .map((line) => {
          let best = 0;
          line.places.forEach((place, index) => {
            if (Math.abs(place - x) < Math.abs(line.places[best] - x)) best = index;
          });
          return `${line.name} ${line.y[best]} at ${line.x[best]}`;
        })
        .join(" · ");
    });
    svg.addEventListener("pointerleave", () => (output.textContent = ""));
  }
})();
