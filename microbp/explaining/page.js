document.querySelectorAll('.bp-explain:not([data-on])').forEach(root => {
  root.dataset.on = 1
  const get = query => [...root.querySelectorAll(query)], [svg] = get('svg'), [wide] = get('.wide'), [slider] = get('input')
  const words = get('li'), last = words.length - 1, parts = get('[data-s]').map(part => [part, part.dataset.s.split(' ').map(Number)])
  const show = step => {
    slider.value = step = (step + last + 1) % (last + 1)
    for (const [part, steps] of parts) {
      const isMarked = part.matches('path,.box')
      part.classList.toggle('off', !isMarked && step < steps[0])
      part.classList.toggle('now', isMarked && step > 0 && steps.includes(step))
    }
    svg.classList.toggle('back', step >= root.dataset.back)
    words.forEach((item, i) => item.hidden = i !== step)
    const [now] = get('.box.now')
    if (now) wide.scrollLeft = now.x.baseVal.value - wide.clientWidth / 2
  }
  const move = by => show(+slider.value + by)
  get('button').forEach(button => button.onclick = () => move(+button.value))
  slider.oninput = () => move(0)
  root.onkeydown = event => {
    const by = {ArrowRight: 1, ArrowLeft: -1}[event.key]
    if (by && event.target !== slider) { event.preventDefault(); move(by) }
  }
  get('.bar')[0].hidden = false
  show(last)
})
