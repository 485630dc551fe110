/* a surface that is turned, brought nearer and cut open, drawn with WebGL 2; x to the right, y up, z towards the viewer at first */

const VERTEX = `#version 300 es
in vec3 place; in vec3 normal;
uniform mat3 turn; uniform vec2 scale; uniform float reach;
out vec3 direction; out float radius; out float depth;
void main() {
  vec3 seen = turn * place / reach;
  direction = turn * normal; radius = length(place); depth = seen.z;
  float near = 1.0 - 0.16 * seen.z;
  gl_Position = vec4(seen.xy * scale, -0.5 * seen.z * near, near);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 direction; in float radius; in float depth;
uniform vec2 span; uniform float cut;
out vec4 colour;
void main() {
  if (depth > cut) discard;
  bool within = !gl_FrontFacing && direction.z < -0.1;
  vec3 facing = normalize(within ? -direction : direction);
  float part = clamp((radius - span.x) / max(span.y - span.x, 1e-3), 0.0, 1.0);
  vec3 tone = part < 0.5 ? mix(vec3(0.13, 0.33, 0.60), vec3(0.30, 0.64, 0.68), 2.0 * part) : mix(vec3(0.30, 0.64, 0.68), vec3(0.95, 0.80, 0.53), 2.0 * part - 1.0);
  if (within) tone = mix(tone, vec3(0.5), 0.55) * 0.8;
  float key = max(dot(facing, normalize(vec3(-0.45, 0.6, 0.75))), 0.0), fill = max(dot(facing, normalize(vec3(0.7, -0.3, 0.35))), 0.0);
  float shine = pow(max(dot(facing, normalize(vec3(-0.25, 0.33, 1.0))), 0.0), 36.0);
  float rim = pow(1.0 - max(facing.z, 0.0), 3.0);
  vec3 lit = tone * (0.30 + 0.66 * key + 0.20 * fill) + vec3(0.16 * shine) - 0.14 * rim;
  colour = vec4(lit * mix(0.62, 1.0, smoothstep(-0.75, 0.5, depth)), 1.0);
}`;
const UPRIGHT = [1, 0, 0, 0, 1, 0, 0, 0, 1];
/* columns of the turn that shows the map as seen from the far end of an axis, as in the figures of the jobs */
const ALONG = { z: UPRIGHT, y: [1, 0, 0, 0, 0, -1, 0, 1, 0], x: [0, 0, 1, 1, 0, 0, 0, 1, 0] };
const [NEAREST, FARTHEST, FILLED] = [12, 0.4, 0.8];

function product(one, other) {
  return one.map((_, at) => [0, 1, 2].reduce((sum, inner) => sum + one[3 * inner + at % 3] * other[3 * Math.floor(at / 3) + inner], 0));
}
function turned(about, angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  return about === "y" ? [c, 0, -s, 0, 1, 0, s, 0, c] : [1, 0, 0, 0, c, s, 0, -s, c];
}

class Viewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.turn = UPRIGHT;
    this.zoom = this.fit = 1;
    this.cut = 2;
    this.mesh = null;
    this.asked = 0;
    this.start();
    if (!this.gl) return;
    canvas.addEventListener("webglcontextlost", event => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.start(); if (this.mesh) this.show(this.mesh, this.reach); });
    this.listen();
    later(canvas, () => this.draw());
  }

  start() {
    const gl = this.gl = this.canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true });
    if (!gl) return;
    const program = this.program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    this.buffers = ["place", "normal"].map(name => {
      const buffer = gl.createBuffer(), at = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 0, 0);
      return buffer;
    });
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  }

  /* reach: pixels from the origin to a side of the box */
  show(mesh, reach) {
    const gl = this.gl;
    [this.mesh, this.reach] = [mesh, reach];
    [mesh.places, mesh.normals].forEach((values, number) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[number]);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    });
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.triangles, gl.DYNAMIC_DRAW);
    const radii = [];
    for (let at = 0; at < mesh.triangles.length; at += Math.ceil(mesh.triangles.length / 2000)) radii.push(Math.hypot(...mesh.places.subarray(3 * mesh.triangles[at], 3 * mesh.triangles[at] + 3)));
    radii.sort((a, b) => a - b);
    this.span = [radii[Math.floor(0.03 * radii.length)] || 0, radii[Math.floor(0.97 * radii.length)] || 1];
    const fit = Math.min(Math.max(FILLED * reach / this.span[1], 1), 3);
    if (this.zoom === this.fit) this.zoom = fit;
    this.fit = fit;
    this.again();
  }

  again() {
    cancelAnimationFrame(this.asked);
    this.asked = requestAnimationFrame(() => this.draw());
  }

  draw() {
    const { gl, canvas, program } = this, ratio = Math.min(devicePixelRatio || 1, 2);
    [canvas.width, canvas.height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!this.mesh) return;
    const least = Math.min(canvas.width, canvas.height), at = name => gl.getUniformLocation(program, name);
    gl.uniformMatrix3fv(at("turn"), false, this.turn);
    gl.uniform2f(at("scale"), this.zoom * least / canvas.width, this.zoom * least / canvas.height);
    gl.uniform2f(at("span"), ...this.span);
    gl.uniform1f(at("reach"), this.reach);
    gl.uniform1f(at("cut"), this.cut);
    if (this.cut > 1) gl.enable(gl.CULL_FACE); else gl.disable(gl.CULL_FACE);  /* only what is cut open shows its inside */
    gl.drawElements(gl.TRIANGLES, this.mesh.triangles.length, gl.UNSIGNED_INT, 0);
    canvas.dataset.triangles = this.mesh.triangles.length / 3;
    canvas.dataset.view = [...this.turn, this.zoom].map(value => value.toFixed(3)).join(" ");
  }

  rotate(right, down) {
    this.turn = product(product(turned("y", right), turned("x", down)), this.turn);
    this.again();
  }
  near(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, FARTHEST), NEAREST);
    this.again();
  }
  look(axis) {
    this.turn = ALONG[axis];
    this.again();
  }
  home() {
    this.zoom = this.fit;
    this.look("z");
  }

  listen() {
    const { canvas } = this, fingers = new Map();
    const apart = () => { const [one, other] = [...fingers.values()]; return Math.hypot(one[0] - other[0], one[1] - other[1]); };
    canvas.addEventListener("pointerdown", event => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, [event.clientX, event.clientY]); });
    canvas.addEventListener("pointermove", event => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const distance = fingers.size === 2 ? apart() : 0, step = 5 / Math.max(canvas.clientWidth, canvas.clientHeight);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (distance) this.near(apart() / distance);
      else this.rotate((event.clientX - before[0]) * step, (event.clientY - before[1]) * step);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, event => fingers.delete(event.pointerId));
    canvas.addEventListener("wheel", event => { event.preventDefault(); this.near(Math.exp(-0.0015 * event.deltaY)); }, { passive: false });
    canvas.addEventListener("dblclick", () => this.home());
    canvas.addEventListener("keydown", event => {
      const turn = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key], nearer = { "+": 1.12, "=": 1.12, "-": 1 / 1.12 }[event.key];
      if (turn) this.rotate(...turn);
      else if (nearer) this.near(nearer);
      else if (event.key === "Home") this.home();
      else if ("xyz".includes(event.key)) this.look(event.key);
      else return;
      event.preventDefault();
    });
  }
}
