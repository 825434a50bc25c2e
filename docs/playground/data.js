// Data sets: points from -1 to 1 with a label, the same for the same seed.

// Numbers from 0 to 1: the generator splitmix32.
function randomNumbers(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x9e3779b9) | 0
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32
  }
}

const ROWS = 200
const around = (random, x, y, spread, label) => {
  const size = spread * Math.sqrt(-2 * Math.log(1 - random())), turn = 2 * Math.PI * random() // Box & Muller 1958
  return { x: x + size * Math.cos(turn), y: y + size * Math.sin(turn), label }
}
const circling = (turn, radius) => [radius * Math.cos(turn), radius * Math.sin(turn)]

const DATA = {
  Circle: {
    task: 'two',
    point: (random, i) => around(random, ...circling(2 * Math.PI * random(), i % 2 ? 0.8 : 0.35 * random()), 0.05, i % 2),
  },
  XOR: {
    task: 'two',
    point: random => {
      const [x, y] = [2 * random() - 1, 2 * random() - 1], gap = value => value + 0.08 * Math.sign(value)
      return { x: gap(x) / 1.08, y: gap(y) / 1.08, label: +(x * y < 0) }
    },
  },
  'Two moons': {
    task: 'two',
    point: (random, i) => {
      const [x, y] = circling(Math.PI * random(), 0.6)
      return i % 2 ? around(random, 0.3 - x, 0.15 - y, 0.06, 1) : around(random, x - 0.3, y - 0.15, 0.06, 0)
    },
  },
  Spiral: {
    task: 'two',
    point: (random, i) => {
      const part = 0.1 + 0.9 * (i / ROWS)
      return around(random, ...circling(1.75 * 2 * Math.PI * part + Math.PI * (i % 2), 0.95 * part), 0.02, i % 2)
    },
  },
  Gaussians: { task: 'three', point: (random, i) => around(random, ...circling(2.1 * i + 0.5, 0.55), 0.17, i % 3) },
  Wave: {
    task: 'curve',
    point: random => {
      const x = 2 * random() - 1
      return { ...around(random, 0, 0.7 * Math.sin(5 * x), 0.05, 0), x }
    },
  },
}

function pointsOf(name, seed) {
  const random = randomNumbers(seed)
  return Array.from({ length: ROWS }, (_, i) => DATA[name].point(random, i))
}
