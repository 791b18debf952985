// Lanes follow the cursor of the charts that they share an axis with, and the other way round.

const main = document.getElementById("main");

main.addEventListener("pointermove", (event) => {
  const area = event.target.closest?.(".u-over, svg.lane");
  for (const lane of main.querySelectorAll("svg.lane")) {
    let line = lane.querySelector("line");
    if (!area) { line?.remove(); continue; }
    if (!line) {
      line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      line.setAttribute("y2", "100%");
      lane.append(line);
    }
    const { left, width } = area.getBoundingClientRect();
    const across = `${((event.clientX - left) / width) * 100}%`;
    line.setAttribute("x1", across);
    line.setAttribute("x2", across);
  }
});
