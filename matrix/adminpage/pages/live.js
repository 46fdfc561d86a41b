// Replaces the part of the page that is watched, each time that the server sends it anew.
(() => {
  const part = document.querySelector("[data-live]");
  if (!part) return;
  let wait = 1000;
  const connect = () => {
    const events = new EventSource(part.dataset.live);
    events.onmessage = (e) => {
      wait = 1000;
      if (!part.contains(document.activeElement)) part.innerHTML = JSON.parse(e.data);
    };
    events.onerror = () => {
      events.close();
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 30000);
    };
  };
  connect();
})();
