const WIDTH = 300, HEIGHT = 120, MARGIN = 8, POINTS = 200;

function shown(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "no value here";
}

document.querySelectorAll(".form").forEach((form, index) => {
  const f = FORMS[index], [[low, high, whole]] = JSON.parse(form.dataset.ranges);
  const inputs = [...form.querySelectorAll("input")], [left, right] = form.querySelectorAll(".ends span");
  left.textContent = shown(low);
  right.textContent = shown(high);
  const steps = whole ? high - low : POINTS;
  function draw() {
    const at = inputs.map((input) => Number(input.value));
    const xs = Array.from({ length: steps + 1 }, (_, i) => low + ((high - low) * i) / steps);
    const ys = xs.map((x) => f(x, ...at.slice(1)));
    const here = f(...at), finite = [...ys, here].filter(Number.isFinite);
    const bottom = Math.min(...finite), top = Math.max(...finite);
    const place = (x, y) => [
      MARGIN + ((WIDTH - 2 * MARGIN) * (x - low)) / (high - low),
      HEIGHT - MARGIN - ((HEIGHT - 2 * MARGIN) * (y - bottom)) / (top - bottom || 1),
    ];
    const points = xs.map((x, i) => [x, ys[i]]).filter(([, y]) => Number.isFinite(y));
    form.querySelector("path").setAttribute("d", "M" + points.map(([x, y]) => place(x, y)).join("L"));
    const [cx, cy] = place(at[0], here);
    form.querySelector("circle").setAttribute("cx", cx);
    form.querySelector("circle").setAttribute("cy", cy);
    form.querySelector("output").textContent = shown(here);
    inputs.forEach((input) => { input.nextElementSibling.textContent = shown(Number(input.value)); });
  }
  inputs.forEach((input) => input.addEventListener("input", draw));
  draw();
});

// A link into folded text unfolds it; so does printing.
function unfold() {
  let target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let node = target; node; node = node.parentElement) {
    if (node.tagName === "DETAILS") node.open = true;
  }
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));

document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  document.querySelectorAll(".claim").forEach((claim) => {
    const text = claim.textContent.toLowerCase();
    claim.hidden = !words.every((word) => text.includes(word));
  });
});
