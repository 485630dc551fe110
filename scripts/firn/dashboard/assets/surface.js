/* isosurface of a density by the dual of marching cubes (Nielson 2004, doi 10.1109/VISUAL.2004.28): in each cell a vertex for each patch of the surface that
   passes through it, at the mean of where the patch crosses the cell's edges, and about each edge of the grid that is crossed two triangles */

const CORNERS = [0, 1, 2, 3, 4, 5, 6, 7].map(corner => [corner & 1, corner >> 1 & 1, corner >> 2]);
/* [first corner, second corner, axis] */
const EDGES = CORNERS.flatMap((_, corner) => [0, 1, 2].filter(axis => !(corner >> axis & 1)).map(axis => [corner, corner | 1 << axis, axis]));
const EDGE_FROM = CORNERS.map((_, corner) => [0, 1, 2].map(axis => EDGES.findIndex(([first, , along]) => first === corner && along === axis)));
const FIRSTS = EDGES.map(([first]) => first), AXES = EDGES.map(([, , axis]) => axis);
const PATCHES = Array.from({ length: 256 }, (_, inside) => patchesOf(inside)), PATCH_COUNTS = PATCHES.map(patches => Math.max(...patches) + 1);
const MOST_VERTICES = 300_000;

/* inside: a bit for each corner of a cell. The patch that crosses each edge, -1 for none; where a face is ambiguous, its two inner corners stay apart */
function patchesOf(inside) {
  const within = corner => (inside >> corner & 1) === 1, crossed = EDGES.map(([first, second]) => within(first) !== within(second)), group = EDGES.map((_, edge) => edge);
  const join = (one, other) => { const from = group[other]; group.forEach((value, edge) => { if (value === from) group[edge] = group[one]; }); };
  const meet = (one, other) => EDGES[one].slice(0, 2).some(corner => within(corner) && EDGES[other].slice(0, 2).includes(corner));
  for (const axis of [0, 1, 2]) for (const side of [0, 1]) {
    const rim = [...EDGES.keys()].filter(edge => crossed[edge] && EDGES[edge][2] !== axis && (EDGES[edge][0] >> axis & 1) === side);
    for (const one of rim) for (const other of rim) if (rim.length === 2 || meet(one, other)) join(one, other);
  }
  const patches = [...new Set(group.filter((_, edge) => crossed[edge]))];
  return Int8Array.from(group, (value, edge) => crossed[edge] ? patches.indexOf(value) : -1);
}

/* data: density [z][y][x] of n pixels a side; level in its units; null where the surface has more than MOST_VERTICES, as that of noise. places in pixels from
   the origin n>>1, normals outward, triangles as triples of vertices */
function surfaceNet(data, n, level) {
  const strides = [1, n, n * n], offsets = CORNERS.map(([x, y, z]) => x + n * y + n * n * z);
  const firstVertex = new Int32Array(n * n * n), shapes = new Uint8Array(n * n * n), cells = [], places = [], sums = new Float64Array(16);
  const above = at => data[at] > level ? 1 : 0;
  let inside = 0;
  for (let z = 0; z < n - 1; z += 1) for (let y = 0; y < n - 1; y += 1) for (let x = 0, at = n * (y + n * z); x < n - 1; x += 1, at += 1) {
    inside = x ? inside >> 1 & 0b01010101 : above(at) | above(at + n) << 2 | above(at + n * n) << 4 | above(at + n + n * n) << 6;
    inside |= above(at + 1) << 1 | above(at + 1 + n) << 3 | above(at + 1 + n * n) << 5 | above(at + 1 + n + n * n) << 7;
    if (inside === 0 || inside === 255) continue;
    const count = PATCH_COUNTS[inside], patchOf = PATCHES[inside];
    if (places.length / 3 + count > MOST_VERTICES) return null;
    sums.fill(0);
    for (let edge = 0; edge < 12; edge += 1) if (patchOf[edge] >= 0) {
      const first = FIRSTS[edge], axis = AXES[edge], start = 4 * patchOf[edge], value = data[at + offsets[first]];
      sums[start] += first & 1;
      sums[start + 1] += first >> 1 & 1;
      sums[start + 2] += first >> 2;
      sums[start + axis] += (level - value) / (data[at + offsets[first] + strides[axis]] - value);
      sums[start + 3] += 1;
    }
    shapes[at] = inside;
    firstVertex[at] = places.length / 3;
    cells.push(at);
    for (let start = 0; start < 4 * count; start += 4) places.push(x + sums[start] / sums[start + 3], y + sums[start + 1] / sums[start + 3], z + sums[start + 2] / sums[start + 3]);
  }
  const triangles = [], vertex = (cell, corner, axis) => firstVertex[cell] + PATCHES[shapes[cell]][EDGE_FROM[corner][axis]];
  for (const at of cells) {
    const outward = data[at] > level;
    for (let axis = 0; axis < 3; axis += 1) {
      if ((data[at + strides[axis]] > level) === outward) continue;
      const one = (axis + 1) % 3, other = (axis + 2) % 3, p = 1 << one, q = 1 << other;
      if (!(Math.floor(at / strides[one]) % n) || !(Math.floor(at / strides[other]) % n)) continue;
      const left = at - strides[one], a = vertex(at, 0, axis), b = vertex(left, p, axis), c = vertex(left - strides[other], p | q, axis), d = vertex(at - strides[other], q, axis);
      if (outward) triangles.push(a, b, c, a, c, d); else triangles.push(a, c, b, a, d, c);
    }
  }
  const normals = gradients(data, n, places), origin = n >> 1;
  return { places: Float32Array.from(places, value => value - origin), normals, triangles: Uint32Array.from(triangles) };
}

/* downhill directions of the density at places, by trilinear interpolation a pixel away on either side */
function gradients(data, n, places) {
  const last = n - 1.001, found = new Float32Array(places.length), layer = n * n;
  const sample = (x, y, z) => {
    x = Math.min(Math.max(x, 0), last); y = Math.min(Math.max(y, 0), last); z = Math.min(Math.max(z, 0), last);
    const i = x | 0, j = y | 0, k = z | 0, u = x - i, v = y - j, w = z - k, at = i + n * j + layer * k;
    const near = (data[at] * (1 - u) + data[at + 1] * u) * (1 - v) + (data[at + n] * (1 - u) + data[at + n + 1] * u) * v;
    const far = (data[at + layer] * (1 - u) + data[at + layer + 1] * u) * (1 - v) + (data[at + layer + n] * (1 - u) + data[at + layer + n + 1] * u) * v;
    return near * (1 - w) + far * w;
  };
  for (let at = 0; at < places.length; at += 3) {
    const x = places[at], y = places[at + 1], z = places[at + 2];
    const a = sample(x - 1, y, z) - sample(x + 1, y, z), b = sample(x, y - 1, z) - sample(x, y + 1, z), c = sample(x, y, z - 1) - sample(x, y, z + 1);
    const length = Math.sqrt(a * a + b * b + c * c) || 1;
    found[at] = a / length;
    found[at + 1] = b / length;
    found[at + 2] = c / length;
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
