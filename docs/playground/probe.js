// One row of a network, forward and backward. PROBE is a network of the same layers with a `scale` after each node that adds
// a bias of 0: the gradient of this bias is the gradient of the node's value.

// The graph text of PROBE; and for each node of the text its operands and the nodes of PROBE that have its value, and its sum
// before the activation.
function probed(text) {
  const lines = [], ends = [], nodes = []
  let prefix = 'probe_' // of names that the text does not have
  while (text.includes(prefix)) prefix += '_'
  const add = line => lines.push(line) - 1
  const seen = node => add(`scale ${node} layer=${prefix}${lines.length} gain=0`)
  for (const line of text.trim().split('\n')) {
    const [, what, numbers, rest] = line.match(/^(\w+)((?: \d+)*)(.*)$/), given = numbers.trim().split(' ').map(Number)
    if (what === 'output') {
      ends.push(`output ${nodes[given[0]].value}${rest}`)
      continue
    }
    const node = { what, operands: what === 'input' ? [] : given, layer: /layer=(\S+)/.exec(rest)?.[1], detail: '', sum: null }
    const from = node.operands.map(operand => nodes[operand].value).join(' ')
    const spec = /activation=(\w+(?:\(.*?\))?)/.exec(rest) ?? [' ', 'identity']
    if (what === 'input') node.value = seen(add(line))
    else if (what === 'dropout' || what === 'noise') node.value = seen(add(`activation ${from} identity`)) // as in a prediction
    else if (what === 'dense' && spec[1] !== 'identity') {
      node.sum = seen(add(`dense ${from}${plain(rest.replace(spec[0], ''))}`))
      node.value = seen(add(`activation ${node.sum} ${spec[1]}`))
      node.detail = spec[1]
    } else {
      node.value = seen(add(`${what} ${from}${plain(rest)}`))
      node.detail = what === 'activation' ? rest.trim() : ''
    }
    nodes.push(node)
  }
  return { text: [...lines, ...ends].join('\n'), nodes, prefix }
}

// Settings without penalties, and with a batch_norm of running statistics.
function plain(settings) {
  return settings.replace(/ (l1|l2|max_norm)=\S+/g, '').replace(/ frozen=0(?= .*momentum)/, ' frozen=1')
}

// The numbers of each node of row i, which is this point: `units` with value, grad, sum and sumGrad; `terms(j)`: what unit j is
// computed from.
function explained(core, { nodes, prefix }, i, point) {
  const { values, tensors, loss } = core.explain(i)
  const grads = node => tensors[`${prefix}${node}.bias`].grads
  const blocks = nodes.map(node => ({
    ...node,
    bias: tensors[`${node.layer}.bias`],
    units: Array.from(values[node.value], (value, j) => ({
      value, grad: grads(node.value)[j],
      sum: node.sum === null ? null : values[node.sum][j], sumGrad: node.sum === null ? null : grads(node.sum)[j],
    })),
  }))
  for (const block of blocks) block.terms = j => termsOf(block, blocks, tensors[`${block.layer}.weight`], j)
  return { blocks, loss, point }
}

// Of unit j: the operands' units, with the weights between them.
function termsOf(block, blocks, weight, j) {
  const found = []
  let begin = 0
  for (const from of block.operands) {
    const { length } = blocks[from].units
    for (let i = 0; i < length; i++) {
      const k = i * (weight?.cols ?? 0) + j
      if (block.what === 'dense') found.push({ from, i, weight: weight.numbers[k], grad: weight.grads[k] })
      else if (block.what === 'layer_norm' || j === (block.what === 'concat' ? begin + i : i)) found.push({ from, i })
    }
    begin += length
  }
  return found
}
