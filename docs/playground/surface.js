// The plane: what the network predicts at each place, the points, and the loss of each epoch.

const COLOURS = [[31, 95, 168], [217, 115, 13], [46, 125, 50]] // of the classes; each also has a shape
const GRID = 64, EDGE = 1.15 // places in a row; the plane is from -EDGE to EDGE

const GRID_ROWS = Float32Array.from({ length: 2 * GRID * GRID }, (_, k) => {
  const place = k >> 1, at = k % 2 ? GRID - 1 - Math.floor(place / GRID) : place % GRID
  return ((2 * at + 1) / GRID - 1) * EDGE
})
const LINE_ROWS = Float32Array.from({ length: 2 * GRID }, (_, k) => ((2 * k + 1) / (2 * GRID) - 1) * EDGE)

class Surface {
  constructor(canvas) {
    this.canvas = canvas
    this.image = new ImageData(GRID, GRID)
    this.small = Object.assign(document.createElement('canvas'), { width: GRID, height: GRID })
  }

  // From the plane to pixels, and back.
  get scale() { return this.canvas.width / (2 * EDGE) }
  pixel(x, y) { return [(x + EDGE) * this.scale, (EDGE - y) * this.scale] }
  plane(event) {
    const box = this.canvas.getBoundingClientRect(), at = (part, size) => (2 * part / size - 1) * EDGE
    return { x: at(event.clientX - box.left, box.width), y: -at(event.clientY - box.top, box.height) }
  }

  draw(core, points, chosen, cross) {
    const size = Math.round(this.canvas.clientWidth * devicePixelRatio)
    if (size && this.canvas.width !== size) this.canvas.width = this.canvas.height = size
    const brush = this.canvas.getContext('2d')
    brush.fillStyle = '#fff'
    brush.fillRect(0, 0, this.canvas.width, this.canvas.height)
    if (core.task.classes) this.fill(brush, core)
    else this.curve(brush, core)
    for (const point of points) this.point(brush, core.task.classes ? point.label : 0, point)
    brush.strokeStyle = '#222'
    brush.lineWidth = 2 * devicePixelRatio
    if (chosen) this.ring(brush, chosen, 9)
    if (cross) this.ring(brush, cross, 3)
  }

  // Each place has the mean of the classes' colours, paler than the points.
  fill(brush, core) {
    const predicted = core.predict(GRID_ROWS), columns = core.task.outputs, { data } = this.image
    for (let place = 0; place < GRID * GRID; place++) {
      const p = columns > 1 ? predicted.subarray(columns * place, columns * (place + 1)) : [1 - predicted[place], predicted[place]]
      for (let channel = 0; channel < 3; channel++)
        data[4 * place + channel] = 255 - 0.55 * p.reduce((sum, part, label) => sum + part * (255 - COLOURS[label][channel]), 0)
      data[4 * place + 3] = 255
    }
    this.small.getContext('2d').putImageData(this.image, 0, 0)
    brush.drawImage(this.small, 0, 0, this.canvas.width, this.canvas.height)
  }

  curve(brush, core) {
    const predicted = core.predict(LINE_ROWS)
    brush.beginPath()
    LINE_ROWS.forEach((x, i) => brush.lineTo(...this.pixel(x, predicted[i])))
    brush.strokeStyle = rgb(1)
    brush.lineWidth = 3 * devicePixelRatio
    brush.stroke()
  }

  point(brush, label, { x, y }) {
    const [across, down] = this.pixel(x, y), r = 4.5 * devicePixelRatio
    brush.beginPath()
    if (label === 0) brush.arc(across, down, r, 0, 7)
    else if (label === 1) brush.rect(across - 0.9 * r, down - 0.9 * r, 1.8 * r, 1.8 * r)
    else for (const turn of [0, 1, 2]) brush.lineTo(...circling(turn * 2.0944 - 1.5708, 1.3 * r).map((by, i) => (i ? down : across) + by))
    brush.closePath()
    brush.fillStyle = rgb(label)
    brush.strokeStyle = '#fff'
    brush.lineWidth = 1.5 * devicePixelRatio
    brush.fill()
    brush.stroke()
  }

  ring(brush, { x, y }, radius) {
    brush.beginPath()
    brush.arc(...this.pixel(x, y), radius * devicePixelRatio, 0, 7)
    brush.stroke()
  }
}

const rgb = label => `rgb(${COLOURS[label]})`

// The losses of all epochs, as means of more and more of them, so that they stay few.
class Losses {
  constructor() { Object.assign(this, { means: [], each: 1, sum: 0, count: 0, last: NaN }) }

  add(losses) {
    for (const loss of losses) {
      this.sum += this.last = loss
      if (++this.count % this.each) continue
      this.means.push(this.sum / this.each)
      this.sum = 0
      if (this.means.length < 400) continue
      this.means = this.means.flatMap((mean, i, all) => (i % 2 ? [(mean + all[i - 1]) / 2] : []))
      this.each *= 2
    }
  }

  // On an axis of logarithms, in a drawing of 400 x 150.
  draw(svg) {
    const shown = this.means.filter(mean => mean > 0), logs = shown.map(Math.log10)
    const top = logs.length ? Math.max(...logs) : 0, low = Math.min(top - 0.1, ...logs)
    const place = (log, i) => [68 + (322 * (i + 1)) / logs.length, 12 + (110 * (top - log)) / (top - low)]
    const path = logs.map((log, i) => place(log, i).map(at => at.toFixed(1)).join(' '))
    svg.querySelector('path').setAttribute('d', path.length > 1 ? `M${path.join('L')}` : '')
    const texts = logs.length ? [short(10 ** top), short(10 ** low), `epoch ${this.means.length * this.each}`] : ['', '', '']
    svg.querySelectorAll('text').forEach((text, i) => { text.textContent = texts[i] })
  }
}

// A number in at most 7 letters, as bp.explain writes it, with a minus, which is longer than a hyphen.
function short(value) {
  const size = Math.abs(value), digits = size < 0.0995 ? 3 : size < 9.995 ? 2 : size < 99.95 ? 1 : 0
  const isPlain = !value || !Number.isFinite(value), isMiddle = size >= 0.00995 && size < 9999.5
  const text = isPlain ? String(value) : isMiddle ? value.toFixed(digits) : value.toExponential(1).replace('+', '')
  return text.replaceAll('-', '\u2212')
}
