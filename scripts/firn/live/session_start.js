/* the page that stands alone reads itself again */

drawHead();
drawAll();
setInterval(tickHead, 1000);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
if (!["ended", "stopped"].includes(told.session.state)) setInterval(() => {
  if (!document.hidden && !document.getElementById("large").open && document.getElementById("tip").hidden) location.reload();
}, 1000 * told.refresh_s);
