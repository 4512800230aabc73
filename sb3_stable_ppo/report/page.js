"use strict";
(() => {
  const nonce = document.currentScript.nonce;
  const data = JSON.parse(document.getElementById("data").textContent);
  const key = "sb3-stable-ppo " + location.pathname;
  function recall() {
    try { return JSON.parse(sessionStorage.getItem(key)) || {}; } catch { return {}; }
  }

  // -- the timeline: one slider for all runs; each shows its last snapshot at or before the step -------------------------
  const slider = document.getElementById("slider");
  let timer = null;
  if (slider) {
    const kept = recall().step; // the step shown before a watched page reloaded itself
    if (kept !== undefined && data.refresh !== null) slider.value = data.steps.findLastIndex((step) => step <= kept);
    const play = document.getElementById("play"), shown = document.getElementById("step");
    const timelines = [...document.querySelectorAll(".timeline")].map((element) => {
      const timeline = data.timelines[Number(element.dataset.timeline)];
      const layers = [...element.querySelectorAll("[data-layer]")].map((figure) => ({
        figure, ...timeline.layers[Number(figure.dataset.layer)],
        image: figure.querySelector("img"), count_text: figure.querySelector(".count"),
        dark: figure.querySelector(".dark"), playhead: figure.querySelector(".playhead"),
      }));
      return { ...timeline, layers, score_text: element.querySelector(".score") };
    });
    const frameAt = (steps, step) => {
      let low = 0, high = steps.length - 1;
      while (low < high) {
        const middle = Math.ceil((low + high) / 2);
        if (steps[middle] <= step) low = middle; else high = middle - 1;
      }
      return low;
    };
    const show = () => {
      const step = data.steps[Number(slider.value)];
      shown.textContent = "step " + step.toLocaleString("en");
      slider.setAttribute("aria-valuetext", shown.textContent);
      for (const timeline of timelines) {
        const index = frameAt(timeline.steps, step), score = timeline.scores[index];
        timeline.score_text.textContent = score === null ? "no return on record yet" : "return " + score.toPrecision(4);
        for (const layer of timeline.layers) {
          layer.image.src = "data:image/png;base64," + layer.frames[index];
          layer.count_text.textContent = layer.counts[index] + " of " + layer.units + " channels " + layer.counted;
          const isDark = layer.counts[index] < data.dark * layer.units;
          layer.dark.hidden = !isDark;
          layer.figure.classList.toggle("is-dark", isDark);
          const x = timeline.steps.length > 1 ? 100 * index / (timeline.steps.length - 1) : 100;
          layer.playhead.setAttribute("x1", x);
          layer.playhead.setAttribute("x2", x);
        }
      }
    };
    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
      play.setAttribute("aria-pressed", "false");
    };
    play.addEventListener("click", () => {
      if (timer !== null) return stop();
      if (Number(slider.value) >= data.steps.length - 1) slider.value = 0;
      play.textContent = "Pause";
      play.setAttribute("aria-pressed", "true");
      show();
      timer = setInterval(() => {
        if (Number(slider.value) >= data.steps.length - 1) return stop();
        slider.value = Number(slider.value) + 1;
        show();
      }, Math.max(50, 12000 / data.steps.length));
    });
    slider.addEventListener("input", () => { if (timer !== null) stop(); show(); });
    show();
  }

  // -- a watched page reloads itself, but not while it plays, and returns to the step that was shown -----------------
  if (data.refresh !== null) {
    const details = [...document.querySelectorAll("details")];
    (recall().open || []).forEach((index) => { if (details[index]) details[index].open = true; });
    setInterval(() => {
      if (timer !== null) return;
      const atEnd = !slider || Number(slider.value) >= data.steps.length - 1;
      const open = details.map((one, index) => (one.open ? index : -1)).filter((index) => index >= 0);
      const state = atEnd ? { open } : { open, step: data.steps[Number(slider.value)] };
      try { sessionStorage.setItem(key, JSON.stringify(state)); } catch { /* a browser that keeps nothing */ }
      location.reload();
    }, 1000 * data.refresh);
  }

  // -- the charts and the library that draws them, as packing.py has packed them -------------------------------------
  const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";
  const fromBase85 = (text) => {
    const values = new Uint8Array(128), bytes = new DataView(new ArrayBuffer(4 * Math.ceil(text.length / 5)));
    for (let digit = 0; digit < 85; digit++) values[DIGITS.charCodeAt(digit)] = digit;
    for (let from = 0, to = 0; from < text.length; from += 5, to += 4) {
      let number = 0;
      for (let at = from; at < from + 5; at++) number = 85 * number + (at < text.length ? values[text.charCodeAt(at)] : 84);
      bytes.setUint32(to, number);
    }
    return new Uint8Array(bytes.buffer, 0, Math.floor(4 * text.length / 5));
  };
  const unpacked = (id) => {
    const bytes = new Blob([fromBase85(document.getElementById(id).textContent)]);
    return new Response(bytes.stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const loadCharts = async () => {
    const script = document.createElement("script");
    script.nonce = nonce; // else the page's policy forbids it
    script.textContent = await unpacked("plotly");
    document.head.append(script);
    return JSON.parse(await unpacked("charts"));
  };

  // -- the charts: drawn when they are scrolled into view or printed, in the colours of the page --------------------------
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const theme = () => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--text"), size: 12 },
    "xaxis.gridcolor": colour("--line"), "yaxis.gridcolor": colour("--line"),
    "xaxis.zerolinecolor": colour("--line"), "yaxis.zerolinecolor": colour("--line"),
  });
  const plots = [...document.querySelectorAll(".plot")];
  const waiting = new Set(plots); // not drawn yet
  let charts = null;
  const missing = (error) => {
    document.getElementById("no-charts").hidden = false;
    console.warn("no chart:", error);
  };
  const draw = async (element) => {
    if (!waiting.delete(element)) return;
    try {
      const chart = charts[element.dataset.chart];
      await Plotly.newPlot(element, chart.data, chart.layout, { responsive: true, displayModeBar: false });
      await Plotly.relayout(element, theme());
    } catch (error) {
      missing(error);
    }
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
    }
  }, { rootMargin: "300px" });
  const start = async () => {
    try {
      charts = await loadCharts();
    } catch (error) {
      return missing(error);
    }
    plots.forEach((element) => watcher.observe(element));
    addEventListener("beforeprint", () => plots.forEach(draw));
  };
  if (plots.length) setTimeout(start); // before any chart is in view, since printing waits for nothing
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.querySelectorAll(".js-plotly-plot").forEach((element) => Plotly.relayout(element, theme()));
  });
})();
