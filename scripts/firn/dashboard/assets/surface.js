/* isosurface of a density by surface nets (Gibson 1998, doi 10.1007/BFb0056277): in each cell that the surface crosses one vertex, at the mean of
   where it crosses the cell's edges, and about each edge of the grid that it crosses two triangles */

const CORNERS = [0, 1, 2, 3, 4, 5, 6, 7].map(corner => [corner & 1, corner >> 1 & 1, corner >> 2]);
const EDGES = [0, 1, 2, 3, 4, 5, 6, 7].flatMap(corner => [0, 1, 2].filter(axis => !(corner >> axis & 1)).map(axis => [corner, corner | 1 << axis, axis]));

const MOST_VERTICES = 300_000;

/* data: density [z][y][x] of n pixels a side; level in its units; null where the surface has more than MOST_VERTICES, as that of noise. places in pixels from the origin n>>1, normals outward, triangles as triples of vertices */
function surfaceNet(data, n, level) {
  const strides = [1, n, n * n], offsets = CORNERS.map(([x, y, z]) => x + n * y + n * n * z);
  const vertexOf = new Int32Array(n * n * n), cells = [], places = [], corner = new Float64Array(8), sum = new Float64Array(3);
  for (let z = 0; z < n - 1; z += 1) for (let y = 0; y < n - 1; y += 1) for (let x = 0, at = n * (y + n * z); x < n - 1; x += 1, at += 1) {
    let inside = 0;
    for (let number = 0; number < 8; number += 1) if (data[at + offsets[number]] > level) inside |= 1 << number;
    if (inside === 0 || inside === 255) continue;
    for (let number = 0; number < 8; number += 1) corner[number] = data[at + offsets[number]];
    if (cells.length === MOST_VERTICES) return null;
    sum.fill(0);
    let crossings = 0;
    for (const [first, second, axis] of EDGES) if ((inside >> first ^ inside >> second) & 1) {
      sum[0] += first & 1;
      sum[1] += first >> 1 & 1;
      sum[2] += first >> 2;
      sum[axis] += (level - corner[first]) / (corner[second] - corner[first]);
      crossings += 1;
    }
    places.push(x + sum[0] / crossings, y + sum[1] / crossings, z + sum[2] / crossings);
    cells.push(at);
    vertexOf[at] = cells.length;
  }
  const triangles = [];
  for (const at of cells) {
    const cell = [at % n, Math.floor(at / n) % n, Math.floor(at / (n * n))], outward = data[at] > level;
    for (let axis = 0; axis < 3; axis += 1) {
      const one = (axis + 1) % 3, other = (axis + 2) % 3;
      if ((data[at + strides[axis]] > level) === outward || !cell[one] || !cell[other]) continue;
      const left = at - strides[one], below = at - strides[other], a = vertexOf[at] - 1, b = vertexOf[left] - 1, c = vertexOf[left - strides[other]] - 1, d = vertexOf[below] - 1;
      if (outward) triangles.push(a, b, c, a, c, d); else triangles.push(a, c, b, a, d, c);
    }
  }
  const normals = gradients(data, n, places), origin = n >> 1;
  return { places: Float32Array.from(places, value => value - origin), normals, triangles: Uint32Array.from(triangles) };
}

/* downhill directions of the density at places, by trilinear interpolation a pixel away on either side */
function gradients(data, n, places) {
  const last = n - 1.001, found = new Float32Array(places.length);
  const sample = (x, y, z) => {
    x = Math.min(Math.max(x, 0), last); y = Math.min(Math.max(y, 0), last); z = Math.min(Math.max(z, 0), last);
    const i = Math.floor(x), j = Math.floor(y), k = Math.floor(z), u = x - i, v = y - j, w = z - k, at = i + n * (j + n * k);
    const row = start => data[start] * (1 - u) + data[start + 1] * u, sheet = start => row(start) * (1 - v) + row(start + n) * v;
    return sheet(at) * (1 - w) + sheet(at + n * n) * w;
  };
  for (let at = 0; at < places.length; at += 3) {
    const [x, y, z] = [places[at], places[at + 1], places[at + 2]];
    const slope = [sample(x - 1, y, z) - sample(x + 1, y, z), sample(x, y - 1, z) - sample(x, y + 1, z), sample(x, y, z - 1) - sample(x, y, z + 1)];
    const length = Math.hypot(...slope) || 1;
    for (let part = 0; part < 3; part += 1) found[at + part] = slope[part] / length;
  }
  return found;
}

function countAbove(data, level) {
  let count = 0;
  for (let at = 0; at < data.length; at += 1) if (data[at] > level) count += 1;
  return count;
}

/* the mesh without pieces of fewer vertices than a share of the largest piece */
function withoutDust(mesh, share) {
  const { triangles } = mesh, parent = Int32Array.from({ length: mesh.places.length / 3 }, (_, number) => number);
  const head = vertex => { while (parent[vertex] !== vertex) vertex = parent[vertex] = parent[parent[vertex]]; return vertex; };
  for (let at = 0; at < triangles.length; at += 3) {
    const one = head(triangles[at]);
    parent[head(triangles[at + 1])] = one;
    parent[head(triangles[at + 2])] = one;
  }
  const sizes = new Int32Array(parent.length);
  for (let vertex = 0; vertex < parent.length; vertex += 1) sizes[head(vertex)] += 1;
  const least = share * sizes.reduce((most, size) => Math.max(most, size), 0), kept = [];
  for (let at = 0; at < triangles.length; at += 3) if (sizes[head(triangles[at])] >= least) kept.push(triangles[at], triangles[at + 1], triangles[at + 2]);
  return { ...mesh, triangles: Uint32Array.from(kept) };
}
