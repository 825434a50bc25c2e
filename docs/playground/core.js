// The C library: its functions with JavaScript's values. A call that fails throws an Error with the library's text.
class Core {
  static TRAINED = 0
  static PROBE = 1
  static NEXT = 2
  static NEXT_PROBE = 3

  static async start() {
    const bytes = Uint8Array.from(atob(WASM), letter => letter.charCodeAt(0))
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))
    const { instance } = await WebAssembly.instantiate(await new Response(stream).arrayBuffer(), {})
    return new Core(instance.exports)
  }

  constructor(c) {
    this.c = c
    this.places = {} // of memory, by name
    c._initialize()
  }

  // ---- memory: an array of C moves when WebAssembly's memory grows, so that each call asks for it again ----

  place(name, bytes) {
    const had = this.places[name]
    if (had && had.bytes >= bytes) return had.at
    if (had) this.c.give(had.at)
    const at = this.c.take(bytes)
    if (!at) throw new Error('no memory for the arrays of the page')
    this.places[name] = { at, bytes }
    return at
  }

  floats(at, count) { return new Float32Array(this.c.memory.buffer, at, count) }
  ints(at, count) { return new Int32Array(this.c.memory.buffer, at, count) }
  doubles(at, count) { return new Float64Array(this.c.memory.buffer, at, count) }

  text(at) {
    const bytes = new Uint8Array(this.c.memory.buffer, at)
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)))
  }

  put(name, text) {
    const bytes = new TextEncoder().encode(text + '\0'), at = this.place(name, bytes.length)
    new Uint8Array(this.c.memory.buffer).set(bytes, at)
    return at
  }

  check(status) {
    if (status) throw new Error(this.text(this.c.message()))
  }

  // ---- formulas ----

  formulas(kind) {
    const found = []
    for (let i = 0, name; (name = this.c.formula(kind, i)); i++)
      found.push({ name: this.text(name), meaning: this.text(this.c.meaning(kind, i)) })
    return found
  }

  get activations() { return this.formulas(0) }
  get optimizers() { return this.formulas(2) }

  // ---- a network ----

  // In NEXT or NEXT_PROBE, with memory for predictions of `rows` rows.
  create(at, graph, task, optimizer, seed, rows) {
    const texts = [this.put('graph', graph), this.put('loss', task.loss), this.put('optimizer', optimizer)]
    const status = this.c.create(at, ...texts, seed, task.inputs, task.outputs, rows)
    const needs = `The graph must have one input of width ${task.inputs} and one output of width ${task.outputs} for this task.`
    if (status) throw new Error(this.text(this.c.message()) || needs)
  }

  graph(at) { return this.text(this.c.graph(at)) }

  // What was made in NEXT and NEXT_PROBE, for this task, becomes TRAINED and PROBE.
  adopt(task) {
    this.c.adopt()
    this.task = task
  }

  // The rows that fit, measure and explain use.
  setPoints(points) {
    const { inputs, classes } = this.task
    this.rows = points.length
    const x = this.place('x', 4 * inputs * this.rows + 4), y = this.place('y', 4 * this.rows + 4)
    const [xs, ys] = [this.floats(x, inputs * this.rows), (classes ? this.ints : this.floats).call(this, y, this.rows)]
    points.forEach((point, i) => {
      xs[i * inputs] = point.x
      if (inputs > 1) xs[i * inputs + 1] = point.y
      ys[i] = classes ? point.label : point.y
    })
  }

  row(i) { return [this.places.x.at + 4 * this.task.inputs * i, this.places.y.at + 4 * i, +!!this.task.classes] }

  // Trains for some epochs; returns the loss of each.
  fit(batch, epochs) {
    const at = this.place('losses', 8 * epochs)
    this.check(this.c.fit(...this.row(0), this.rows, batch, epochs, at))
    return Array.from(this.doubles(at, epochs))
  }

  get steps() { return this.c.steps() }
  get epoch() { return this.c.get(this.put('name', 'epoch')) }
  set lr(value) { this.check(this.c.set(this.put('name', 'lr'), value)) }
  measure() { return this.c.measure(this.put('name', this.task.metric), ...this.row(0), this.rows) }

  // The predictions of rows, an array of all their numbers.
  predict(inputs) {
    const rows = inputs.length / this.task.inputs, count = rows * this.task.outputs
    const [x, out] = [this.place('grid', 4 * inputs.length), this.place('predictions', 4 * count)]
    this.floats(x, inputs.length).set(inputs)
    this.check(this.c.predict(x, rows, out))
    return this.floats(out, count)
  }

  // Of row i in PROBE: the values of each node, the loss, and of each tensor the numbers, their gradients and its shape.
  explain(i) {
    const widths = Array.from({ length: this.c.nodes() }, (_, node) => this.c.width(node))
    const total = widths.reduce((sum, width) => sum + width, 0)
    const [at, loss] = [this.place('values', 4 * total), this.place('loss', 8)]
    const [layer, shape] = [this.place('layer', 4), this.place('shape', 12)]
    this.check(this.c.explain(...this.row(i), at, loss))
    let end = 0
    const values = widths.map(width => this.floats(at, total).slice(end, (end += width))), tensors = {}
    for (let k = 0, name; (name = this.c.tensor(k, layer, shape)); k++) {
      const [offset, rows, cols] = this.ints(shape, 3), place = 4 * offset, count = rows * cols
      const [numbers, grads] = [this.c.params(Core.PROBE), this.c.grads()].map(start => this.floats(start + place, count).slice())
      tensors[`${this.text(this.ints(layer, 1)[0])}.${this.text(name)}`] = { numbers, grads, rows, cols }
    }
    return { values, tensors, loss: this.doubles(loss, 1)[0] }
  }
}
