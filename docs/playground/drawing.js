// The drawing of one row: a box for each unit, with its value (forward, blue) above its gradient (backward, orange).

const BOX = { width: 74, height: 38, pitch: 44, gap: 110, head: 44, edge: 12 }
const MOST = 8 // units of a node that are shown
const TIMES = 6.4 // the width of a letter, about

class Drawing {
  constructor(svg, words) {
    Object.assign(this, { svg, words, chosen: null, shape: '' })
    svg.addEventListener('click', event => {
      const box = event.target.closest('[data-unit]')
      if (box) this.choose(...box.dataset.unit.split(' ').map(Number))
    })
    svg.addEventListener('keydown', event => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key]
      if (!by || !this.chosen) return
      event.preventDefault()
      const [block, unit] = this.chosen, next = Math.min(Math.max(block + by[0], 0), this.row.blocks.length - 1)
      this.choose(next, Math.min(Math.max(unit + by[1], 0), this.shown(next) - 1))
    })
  }

  shown(block) { return Math.min(this.row.blocks[block].units.length, MOST) }

  choose(block, unit) {
    this.chosen = [block, unit]
    this.draw(this.row)
  }

  draw(row) {
    this.row = row
    const shape = row.blocks.map(block => `${block.layer} ${block.what} ${block.detail} ${block.units.length} ${block.operands}`).join()
    if (shape !== this.shape) this.build(shape)
    this.chosen ??= [row.blocks.length - 1, 0]
    this.update()
  }

  // ---- the elements ----

  build(shape) {
    const { blocks } = this.row, columns = [], columnOf = []
    Object.assign(this, { shape, chosen: null })
    this.places = blocks.map((block, b) => {
      const column = 1 + Math.max(-1, ...block.operands.map(operand => columnOf[operand])), others = (columns[column] ??= [])
      const y = others.reduce((sum, other) => sum + this.tall(other), 0)
      columnOf.push(column)
      others.push(b)
      return { x: BOX.edge + column * (BOX.width + BOX.gap), y }
    })
    const heights = columns.map(column => column.reduce((sum, b) => sum + this.tall(b), 0)), height = Math.max(...heights)
    columns.forEach((column, i) => { for (const b of column) this.places[b].y += BOX.edge + BOX.head + (height - heights[i]) / 2 })
    const lines = blocks.flatMap((block, b) => this.units(b).flatMap(j => this.linesOf(b, j)))
    const width = 2 * BOX.edge + columns.length * (BOX.width + BOX.gap) - BOX.gap
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height + 2 * BOX.edge}`)
    this.svg.setAttribute('width', width)
    const title = '<title>The network, with the numbers of the chosen point</title>'
    this.svg.innerHTML = `${title}${lines.join('')}<g></g>${blocks.map((_, b) => this.boxesOf(b)).join('')}`
    this.labels = this.svg.querySelector('g')
    this.lines = [...this.svg.querySelectorAll('path')].map(path => [path, ...path.dataset.line.split(' ').map(Number)])
    this.boxes = [...this.svg.querySelectorAll('[data-unit]')].map(box => [box, ...box.querySelectorAll('text')])
  }

  units(block) { return [...Array(this.shown(block)).keys()] }
  tall(block) { return BOX.head + BOX.pitch * this.shown(block) + 16 * (this.shown(block) < this.row.blocks[block].units.length) }
  corner(block, unit) { return [this.places[block].x, this.places[block].y + BOX.pitch * unit] }

  linesOf(block, unit) {
    const [x, y] = this.corner(block, unit)
    return this.row.blocks[block].terms(unit).map(({ from, i }, k) => {
      if (i >= MOST) return ''
      const [a, b] = this.corner(from, i).map((at, side) => at + (side ? BOX.height / 2 : BOX.width)), end = `${x} ${y + BOX.height / 2}`
      const passes = x - a > BOX.gap // other columns: between their boxes
      const to = passes ? `Q${(a + x) / 2} ${(b + y + BOX.height / 2) / 2 - BOX.pitch} ${end}` : `L${end}`
      return `<path d="M${a} ${b}${to}" data-line="${block} ${unit} ${k}"/>`
    })
  }

  boxesOf(block) {
    const { layer, what, detail, units } = this.row.blocks[block], [x, y] = this.corner(block, 0), middle = x + BOX.width / 2
    const text = (dy, kind, words) => `<text x="${middle}" y="${y + dy}" class="${kind}">${words}</text>`
    const heads = text(-22, 'n', layer ?? (what === 'input' ? 'x' : what)) + text(-8, 'd', detail || what)
    const more = units.length - this.shown(block)
    return heads + this.units(block).map(j => {
      const top = BOX.pitch * j
      return `<g data-unit="${block} ${j}"><rect class="box" x="${x}" y="${y + top}" width="${BOX.width}" height="${BOX.height}" rx="5"/>`
        + `${text(top + 16, 'v', '')}${text(top + 31, 'g', '')}</g>`
    }).join('') + (more ? text(BOX.pitch * MOST + 8, 'd', `${more} more`) : '')
  }

  // ---- the numbers ----

  update() {
    const { blocks } = this.row, [block, unit] = this.chosen
    for (const [box, value, grad] of this.boxes) {
      const [b, j] = box.dataset.unit.split(' ').map(Number), one = blocks[b].units[j]
      value.textContent = short(one.value)
      grad.textContent = short(one.grad)
      box.firstChild.classList.toggle('now', b === block && j === unit)
    }
    const terms = blocks.map((one, b) => this.units(b).map(j => one.terms(j)))
    const part = term => Math.abs((term.weight ?? 1) * blocks[term.from].units[term.i].value)
    const labels = []
    for (const [path, b, j, k] of this.lines) {
      const isNow = b === block && j === unit, { from, i, weight, grad } = terms[b][j][k]
      path.classList.toggle('now', isNow)
      path.style.opacity = isNow ? 1 : 0.12 + (0.78 * part(terms[b][j][k])) / (Math.max(...terms[b][j].map(part)) || 1)
      if (isNow && weight !== undefined) labels.push(this.label(from, i, weight, grad))
    }
    this.labels.innerHTML = labels.join('')
    this.words.textContent = this.sentence(blocks[block], unit)
  }

  // The weight and its gradient, side by side at the begin of the line, on white.
  label(from, i, weight, grad) {
    const [x, y] = this.corner(from, i), texts = [short(weight), short(grad)], widths = texts.map(text => TIMES * text.length)
    const [start, height] = [x + BOX.width + 5, y + BOX.height / 2 + 4]
    const text = (kind, place, words) => `<text class="${kind} s" x="${place}" y="${height}">${words}</text>`
    return `<rect x="${start - 2}" y="${height - 11}" width="${widths[0] + widths[1] + 9}" height="15"/>`
      + text('v', start, texts[0]) + text('g', start + widths[0] + 6, texts[1])
  }

  sentence(block, j) {
    const { value, grad, sum, sumGrad } = block.units[j], name = `${block.layer ?? (block.what === 'input' ? 'x' : block.what)}[${j}]`
    const how = sum === null ? short(value) : `${block.detail} of ${short(sum)} = ${short(value)}`
    const by = sum === null ? `by it is ${short(grad)}` : `by it is ${short(grad)}, by its sum ${short(sumGrad)}`
    const of = numbers => short(block.bias[numbers][j])
    const bias = block.bias && block.what === 'dense' ? ` Its bias is ${of('numbers')}, gradient ${of('grads')}.` : ''
    return `${this.row.point}: its loss is ${short(this.row.loss)}. ${name} = ${how}. The derivative of the loss ${by}.${bias}`
  }
}
