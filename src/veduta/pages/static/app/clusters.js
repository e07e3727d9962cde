// Places that are close to each other on a map, as one.

const CELL = 64; // CSS pixels
const NEAR = 52; // two markers closer than this would cover each other

/**
 * Return clusters of points: {x, y, points}, the largest first. Moving the map does not change them.
 * `points`: of {x, y}, in a square of side 1 that is `scale` CSS pixels wide.
 */
export function clustersOf(points, scale) {
  const cells = new Map();
  const keyOf = (column, row) => `${column},${row}`;
  for (const point of points) {
    const [column, row] = [Math.floor((point.x * scale) / CELL), Math.floor((point.y * scale) / CELL)];
    const key = keyOf(column, row);
    if (!cells.has(key)) cells.set(key, { column, row, x: 0, y: 0, points: [] });
    const cell = cells.get(key);
    cell.x += point.x;
    cell.y += point.y;
    cell.points.push(point);
  }
  for (const cell of cells.values()) {
    cell.x /= cell.points.length;
    cell.y /= cell.points.length;
  }
  // The largest take in what is near to them. Only the eight cells around can be that near.
  const clusters = [];
  for (const cell of [...cells.values()].sort((one, other) => other.points.length - one.points.length)) {
    if (!cells.delete(keyOf(cell.column, cell.row))) continue;
    for (let row = cell.row - 1; row <= cell.row + 1; row++) {
      for (let column = cell.column - 1; column <= cell.column + 1; column++) {
        const other = cells.get(keyOf(column, row));
        if (!other || Math.hypot(other.x - cell.x, other.y - cell.y) * scale >= NEAR) continue;
        cells.delete(keyOf(column, row));
        cell.points.push(...other.points);
      }
    }
    clusters.push({ x: cell.x, y: cell.y, points: cell.points });
  }
  return clusters.sort((one, other) => other.points.length - one.points.length);
}
