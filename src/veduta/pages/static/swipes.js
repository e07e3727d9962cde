// Swipes to the left and to the right, on a photo that is not zoomed.

const MIN_SWIPE = 45; // CSS pixels

/** Call `move(1)` for a swipe to the left on an element, and `move(-1)` for one to the right. */
export function listenForSwipes(area, move) {
  let start = null;
  area.addEventListener("touchstart", (event) => {
    start = event.touches.length === 1 ? event.touches[0] : null;
  }, { passive: true });
  area.addEventListener("touchend", (event) => {
    const end = event.changedTouches[0];
    const zoomed = window.visualViewport.scale > 1.05;
    if (start && !zoomed && !event.touches.length) {
      const x = end.clientX - start.clientX;
      const y = end.clientY - start.clientY;
      if (Math.abs(x) > MIN_SWIPE && Math.abs(x) > 1.5 * Math.abs(y)) move(x < 0 ? 1 : -1);
    }
    start = null;
  });
}
