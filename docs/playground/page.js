// The page: what the controls say, the network that follows from it, and the loop that trains it.

const TASKS = {
  two: { title: '2 classes', loss: 'bce', inputs: 2, outputs: 1, classes: 2, metric: 'accuracy', target: '0 or 1' },
  three: { title: '3 classes', loss: 'cross_entropy', inputs: 2, outputs: 3, classes: 3, metric: 'accuracy', target: '0, 1 or 2' },
  curve: { title: 'y of x', loss: 'mse', inputs: 1, outputs: 1, classes: 0, metric: 'rmse', target: 'a number' },
}
const PENALTIES = { none: 'none', l1: 'L1', l2: 'L2', dropout: 'dropout' }
const FIELDS = { // least, most, whether whole, in words
  lr: [0, 1e6, false, 'The learning rate must be a number from 0 to 1000000, such as 0.01.'],
  batch: [1, 1e6, true, 'Rows per step must be a whole number from 1 on, such as 10.'],
  strength: [0, 1e6, false, 'The strength of the regularization must be a number from 0 on; of dropout, below 1.'],
  seed: [0, 2 ** 32 - 1, true, 'The seed must be a whole number from 0 to 4294967295.'],
  units: [1, 64, true, 'The units of a layer must be a whole number from 1 to 64.'],
}
const LAYERS = 6 // at most
const PACES = { 1: '1 epoch per picture', 10: '10 epochs per picture', Infinity: 'as fast as it goes' }
const $ = id => document.getElementById(id)

const state = {
  task: 'two', points: [], chosen: 0, cross: null, running: false,
  layers: [{ units: 8, activation: 'tanh' }, { units: 8, activation: 'tanh' }],
  graph: null, // a text of the user's own; null: that of the layers
}
let core, surface, drawing, losses, probe, values

// ---- messages ----

const say = text => { if ($('message').textContent !== text) $('message').textContent = text }

// Does something; if it fails, the message says why, and learning stops.
function attempt(action) {
  try {
    action()
    return true
  } catch (error) {
    setRunning(false)
    say(advice(error.message))
    return false
  }
}

function advice(text) {
  if (/finite/.test(text)) return `${text}. Learning has stopped: choose a smaller learning rate, then “Start again”.`
  return /no memory/.test(text) ? `${text}. The page has 512 MB: choose smaller layers.` : text
}

// ---- from the controls to a network ----

function read(input, name = input.id) {
  const [least, most, isWhole, needs] = FIELDS[name], value = input.valueAsNumber
  const below = name === 'strength' && $('penalty').value === 'dropout' ? 1 : Infinity
  const isGood = value >= least && value <= most && value < below && (!isWhole || Number.isInteger(value))
  input.setAttribute('aria-invalid', !isGood)
  if (!isGood) throw new Error(needs)
  return value
}

function readControls() {
  values = Object.fromEntries(['lr', 'batch', 'strength', 'seed'].map(name => [name, read($(name))]))
  const units = [...document.querySelectorAll('#layers input')].map(input => read(input, 'units'))
  state.layers = units.map((count, i) => ({ units: count, activation: document.querySelectorAll('#layers select')[i].value }))
  values.penalty = $('penalty').value
  values.optimizer = `${$('optimizer').value}(lr=${values.lr})`
}

function graphText() {
  const task = TASKS[state.task], { penalty, strength } = values, lines = [`input ${task.inputs}`]
  const setting = penalty === 'l1' || penalty === 'l2' ? ` ${penalty}=${strength}` : ''
  const add = line => lines.push(line.replace('@', lines.length - 1))
  for (const { units, activation } of state.layers) {
    add(`dense @ units=${units} activation=${activation}${setting}`)
    if (penalty === 'dropout') add(`dropout @ rate=${strength}`)
  }
  add(`dense @ units=${task.outputs}${setting}`)
  add('output @')
  return lines.join('\n')
}

function pythonText() {
  const task = TASKS[state.task], { penalty, strength, seed, batch, optimizer } = values
  const setting = penalty === 'l1' || penalty === 'l2' ? `, ${penalty}=${strength}` : ''
  const lines = state.layers.flatMap(({ units, activation }) => [
    `h = bp.Dense(${units}, activation="${activation}"${setting})(h)`,
    ...(penalty === 'dropout' ? [`h = bp.Dropout(${strength})(h)`] : []),
  ])
  return `import microbp as bp

h = x = bp.Input(${task.inputs})
${[...lines, `h = bp.Dense(${task.outputs}${setting})(h)`].join('\n')}
net = bp.Network(x, h, seed=${seed})
t = bp.Trainer(net, loss="${task.loss}", optimizer="${optimizer}")
t.fit(X, y, epochs=100, batch_size=${batch})  # X: (${used().length}, ${task.inputs}); y: (${used().length},), ${task.target}`
}

// A new network with new weights, after changes of the state. If that fails, all stays as it is.
function build(changes = {}) {
  const before = { ...state }
  const works = attempt(() => {
    Object.assign(state, changes)
    readControls()
    const task = TASKS[state.task], graph = state.graph ?? graphText()
    core.create(Core.NEXT, graph, task, values.optimizer, values.seed, GRID * GRID)
    const next = probed(core.graph(Core.NEXT))
    core.create(Core.NEXT_PROBE, next.text, task, 'sgd', 0, 1)
    core.adopt(task)
    probe = next
    losses = new Losses()
    drawing.shape = ''
    say('')
    usePoints()
    $('graph').value = graph
    $('python').textContent = state.graph === null ? pythonText() : 'The graph text is your own: use it in C.'
    $('metric').textContent = task.classes ? 'Accuracy' : 'Root mean square error'
    for (const label of document.querySelectorAll('#tools label')) label.hidden = label.control.value >= Math.max(task.classes, 1)
    checkTool()
  })
  if (!works) Object.assign(state, before, { running: false })
  $('task').value = state.task
  show()
}

// ---- points ----

const used = () => state.points.filter(({ label }) => state.task === 'curve' || label < TASKS[state.task].classes)

function usePoints() {
  core.setPoints(used())
  state.chosen = Math.min(state.chosen, Math.max(core.rows - 1, 0))
}

function nearest(points, { x, y }) {
  const far = point => (point.x - x) ** 2 + (point.y - y) ** 2
  return points.reduce((best, point, i) => (far(point) < far(points[best]) ? i : best), 0)
}

// What the tool does at a place.
function apply(place) {
  const tool = document.querySelector('[name=tool]:checked').value, near = point => Math.hypot(point.x - place.x, point.y - place.y)
  if (Math.abs(place.x) > EDGE || Math.abs(place.y) > EDGE) return
  if (tool === 'choose') state.chosen = nearest(used(), place)
  else if (tool === 'erase') state.points = state.points.filter(point => near(point) > 0.08)
  else state.points.push({ x: place.x, y: place.y, label: Number(tool) })
  usePoints()
  show()
}

function load(name) {
  build({ task: DATA[name].task, points: pointsOf(name, $('seed').valueAsNumber || 0), chosen: 0, graph: null })
}

// A tool that the task does not have becomes the first one.
function checkTool() {
  const tool = document.querySelector('[name=tool]:checked')
  if (tool.value >= Math.max(TASKS[state.task].classes, 1)) document.querySelector('[name=tool]').checked = true
}

// ---- learning ----

function setRunning(running) {
  const starts = running && !state.running
  state.running = running
  $('run').textContent = running ? 'Pause' : 'Learn'
  if (starts) {
    state.chunk = 1
    state.since = { time: performance.now(), steps: core.steps }
    requestAnimationFrame(frame)
  }
}

function train(epochs) {
  if (!core.rows) throw new Error('There are no points yet: draw some, or take a data set.')
  losses.add(core.fit(values.batch, epochs))
}

// Trains, at most for about 10 ms, so that the page always answers, and draws. A chunk is as many epochs as take about 2 ms.
function frame() {
  if (!state.running) return
  const start = performance.now()
  const works = attempt(() => {
    for (let left = Number($('pace').value), now = start; left > 0 && now < start + 10;) {
      const epochs = Math.min(state.chunk, left)
      train(epochs)
      left -= epochs
      const took = performance.now() - now
      if (took < 1) state.chunk = Math.min(2 * state.chunk, 1000)
      else if (took > 4) state.chunk = Math.ceil(state.chunk / 2)
      now += took
    }
  })
  if (!works) return show()
  drawPlane()
  if (start - state.since.time > 250) {
    $('speed').textContent = Math.round((1000 * (core.steps - state.since.steps)) / (start - state.since.time)).toLocaleString('en')
    state.since = { time: start, steps: core.steps }
    showNumbers()
  }
  requestAnimationFrame(frame)
}

function showNumbers() {
  $('epoch').textContent = core.epoch.toLocaleString('en')
  $('steps').textContent = core.steps.toLocaleString('en')
  $('loss').textContent = losses.count ? short(losses.last) : '–'
  $('score').textContent = core.rows ? short(core.measure()) : '–'
  losses.draw($('losses'))
  $('row').hidden = !core.rows
  if (core.rows) attempt(() => drawing.draw(explained(core, probe, state.chosen, titleOf(used()[state.chosen]))))
}

function titleOf({ x, y, label }) {
  return state.task === 'curve' ? `The point x = ${short(x)}, y = ${short(y)}` : `The point (${short(x)}, ${short(y)}) of class ${label}`
}

function drawPlane() {
  const points = used()
  surface.draw(core, points, points[state.chosen], state.cross)
}

function show() {
  drawPlane()
  showNumbers()
}

// ---- controls ----

const option = (value, title = value) => `<option value="${value}">${title}</option>`

function showLayers() {
  $('layers').innerHTML = state.layers.map(({ units }, i) => `<li>
    <input type="number" aria-label="Units of layer ${i + 1}" value="${units}">
    <select aria-label="Activation of layer ${i + 1}">${core.activations.map(({ name }) => option(name)).join('')}</select>
    <button aria-label="Remove layer ${i + 1}">×</button></li>`).join('')
  document.querySelectorAll('#layers select').forEach((select, i) => { select.value = state.layers[i].activation })
  document.querySelectorAll('#layers button').forEach((button, i) => {
    button.onclick = () => changeLayers(() => state.layers.splice(i, 1))
  })
  $('add').disabled = state.layers.length >= LAYERS
}

function changeLayers(change) {
  if (!attempt(readControls)) return
  change()
  showLayers()
  build({ graph: null })
}

const meanings = () => {
  const name = $('optimizer').value
  $('meaning').textContent = `${name}: ${core.optimizers.find(one => one.name === name).meaning}`
}

function listen() {
  $('run').onclick = () => { setRunning(!state.running); show() }
  $('once').onclick = () => { if (attempt(() => train(1))) show() }
  $('restart').onclick = () => build()
  $('add').onclick = () => changeLayers(() => state.layers.push({ units: 8, activation: 'tanh' }))
  $('layers').onchange = () => build({ graph: null })
  $('task').onchange = () => build({ task: $('task').value, graph: null })
  $('use').onclick = () => build({ graph: $('graph').value })
  for (const id of ['optimizer', 'penalty', 'strength', 'seed']) $(id).onchange = () => build()
  $('optimizer').addEventListener('change', meanings)
  // These two change nothing that was learnt.
  for (const id of ['lr', 'batch']) $(id).onchange = () => attempt(() => {
    readControls()
    core.lr = values.lr
    say('')
    $('python').textContent = state.graph === null ? pythonText() : $('python').textContent
  })
  for (const button of $('sets').children) button.onclick = () => (button.value ? load(button.value) : clear())
  listenToPlane($('plane'))
  addEventListener('resize', drawPlane)
}

function clear() {
  state.points = []
  usePoints()
  setRunning(false)
  show()
}

function listenToPlane(plane) {
  let last = null
  const at = event => {
    const place = surface.plane(event)
    if (last && Math.hypot(place.x - last.x, place.y - last.y) < 0.06) return
    last = place
    attempt(() => apply(place))
  }
  plane.onpointerdown = event => { plane.setPointerCapture(event.pointerId); last = null; state.cross = null; at(event) }
  plane.onpointermove = event => { if (event.buttons) at(event) }
  plane.onkeydown = event => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key]
    if (!by && event.key !== 'Enter' && event.key !== ' ') return
    event.preventDefault()
    state.cross ??= { x: 0, y: 0 }
    const inside = value => Math.min(Math.max(value, -1.1), 1.1)
    if (by) state.cross = { x: inside(state.cross.x + 0.05 * by[0]), y: inside(state.cross.y + 0.05 * by[1]) }
    else attempt(() => apply(state.cross))
    show()
  }
  plane.onblur = () => { state.cross = null; show() }
}

async function main() {
  core = await Core.start()
  surface = new Surface($('plane'))
  drawing = new Drawing($('drawing'), $('words'))
  const set = (value, title = value) => `<button value="${value}">${title}</button>`
  $('sets').innerHTML = Object.keys(DATA).map(name => set(name)).join('') + set('', 'Clear')
  $('task').innerHTML = Object.entries(TASKS).map(([value, { title }]) => option(value, title)).join('')
  $('penalty').innerHTML = Object.entries(PENALTIES).map(pair => option(...pair)).join('')
  $('pace').innerHTML = Object.entries(PACES).map(pair => option(...pair)).join('')
  $('pace').value = 10
  $('optimizer').innerHTML = core.optimizers.map(({ name }) => option(name)).join('')
  $('optimizer').value = 'adam'
  showLayers()
  meanings()
  listen()
  load('Circle')
}

const NEEDS = 'It needs a browser from 2023 or later, with WebAssembly and its vectors.'
main().catch(error => say(`The page cannot start: ${error.message}. ${NEEDS}`))
