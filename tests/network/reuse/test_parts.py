"""Parts of networks: they compute what the network computes, share its values, train their own layers only, and are networks of their own
in copies and files."""

import copy
import pickle
import threading

import graphs
import numpy as np
import pytest

import microbp as bp


def ends(net):
    """The nodes where parts of a network may begin and end: up to each node, and from each node on, if it covers an output."""
    found = [(None, node.node) for node in net.nodes] + [(None, None)]
    for node in net.nodes:
        for output in net.outputs:
            try:
                net.part(node.node, output.node)
            except ValueError as error:
                text = str(error)
            else:
                text = "a part: no output depends on node"
                found.append((node.node, output.node))
            assert any(part in text for part in ("outputs depend on node", "no output depends on node", "begins with nodes of 1 position"))
    return found


def listed(value):
    return value if isinstance(value, list) else [value]


def one(values):
    return values[0] if len(values) == 1 else values


def values_at(net, x, part, begin):
    """What the net's nodes give the inputs of a part."""
    if begin is None:
        needed = {entry.node for entry in net.inputs if entry.node in used(net, part)}
        return one([array for array, entry in zip(listed(x), net.inputs, strict=True) if entry.node in needed])
    return net.predict(x, at=begin)


def used(net, outputs):
    found = set(outputs)
    for node in reversed(net.nodes):
        if node.node in found:
            found.update(node.operands)
    return found


def data(net, part, begin, end, rows=9):
    """X and y for a part."""
    outputs = [output.node for output in net.outputs] if end is None else [end]
    x = values_at(net, graphs.rows_of(net, rows), outputs, begin)
    random = np.random.default_rng(1)
    return x, one([random.normal(size=(rows, *output.row_shape)) for output in part.outputs])


def trainer(net):
    return bp.Trainer(net, ["mse"] * len(net.outputs), bp.AdamW(lr=0.01, weight_decay=0.1), clip_value=0.5, average=bp.EMA(0.5), seed=3)


def tensors(net):
    return {name: view.copy() for name, view in net.tensors.items()}


def same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


@pytest.fixture(params=graphs.SHAPES)
def net(request, backend):
    return graphs.network(request.param, dtype="float64", backend=backend)


def test_a_part_computes_what_the_network_computes(net):
    for begin, end in ends(net):
        part = net.part(begin, end)
        assert np.shares_memory(part.params, net.params) or not len(net.params)
        x, _ = data(net, part, begin, end)
        outputs = [output.node for output in net.outputs] if end is None else [end]
        for found, node in zip(listed(part.predict(x, raw=True)), outputs, strict=True):
            np.testing.assert_array_equal(found, net.predict(graphs.rows_of(net, 9), at=node))


def test_a_part_is_trained_like_a_network_of_its_own_and_changes_no_other_layers(net):
    for begin, end in ends(net):
        part, before = net.part(begin, end), tensors(net)
        if not part.layers:
            continue
        own, (x, y) = part.copy(), data(net, part, begin, end)
        assert len(own.params) == sum(layer.parameters for layer in part.layers)
        same(part.tensors, own.tensors)
        both = [trainer(part), trainer(own)]
        for _ in range(3):
            losses = [t.step(x, y) for t in both]
            assert losses[0] == losses[1]
        same(part.tensors, own.tensors)
        same(both[0].averaged().tensors, both[1].averaged().tensors)
        changed = {name.partition(".")[0] for name, value in tensors(net).items() if not np.array_equal(value, before[name])}
        assert changed <= {layer.name for layer in part.layers} and (changed or not len(own.params))
        assert len(both[0].grads) == len(net.params)


def test_both_backends_make_the_same_parts(net):
    other = graphs.network("chain", dtype="float64", backend="reference" if net.backend == "compiled" else "compiled")
    other = type(net)._from(type(other._core)(net.text(), "float64", net.seed), other.backend, {}, None)
    for begin, end in ends(net):
        assert net.part(begin, end).text() == other.part(begin, end).text()
        assert list(net.part(begin, end).tensors) == list(other.part(begin, end).tensors)


def test_copies_pickles_and_files_of_parts_are_networks_of_their_own(net, tmp_path):
    for begin, end in ends(net):
        part = net.part(begin, end)
        if not part.layers:
            continue
        part.freeze(part.layers[0].name)
        part.save(tmp_path / "part")
        for own in (part.copy(), copy.deepcopy(part), pickle.loads(pickle.dumps(part)), bp.load(tmp_path / "part", backend=net.backend)):
            assert own.text() == part.text() and len(own.params) == sum(layer.parameters for layer in part.layers)
            assert not np.shares_memory(own.params, net.params)
            same(own.tensors, part.tensors)
        part.unfreeze()


def test_a_trainer_of_a_part_is_saved_as_one_of_a_network_of_its_own(net, tmp_path):
    for begin, end in ends(net):
        part = net.part(begin, end)
        if not part.layers:
            continue
        t, (x, y) = trainer(part), data(net, part, begin, end)
        t.step(x, y)
        twin = copy.copy(t)
        assert twin.net is part
        t.save(tmp_path / "trainer")
        others = [copy.deepcopy(t), pickle.loads(pickle.dumps(t)), bp.Trainer.load(tmp_path / "trainer", backend=net.backend)]
        for slot in t.state:
            np.testing.assert_array_equal(twin.state[slot], t.state[slot])
        expected = t.step(x, y)
        for other in others:
            assert len(other.grads) == len(other.net.params) == sum(layer.parameters for layer in part.layers)
            assert other.step(x, y) == expected
            same(other.net.tensors, part.tensors)
            same(other.averaged().tensors, t.averaged().tensors)


# ---- one network ----


def autoencoder(backend=None, **options):
    x = bp.Input(6)
    code = bp.Dense(3, activation="tanh", name="code")(x)
    y = bp.Dense(6, name="out")(code)
    return (x, code, y), bp.Network(x, [y, code], seed=0, backend=backend, **options)


def test_nodes_have_names_numbers_and_objects(backend):
    (x, code, y), net = autoencoder(backend)
    expected = net.part(1, 2).text()
    for begin in (code, "code", 1, [code], ("code",)):
        for end in (y, "out", 2, ["out"]):
            assert net.part(begin, end).text() == expected
    assert net.part(code).text() == expected and net.part(x, "code").text() == net.part(outputs="code").text()
    part = net.part(code)
    assert part.part(code, y).text() == expected  # the part knows its nodes too
    assert net.copy().part(code).text() == expected


def test_settings_frozen_layers_activations_and_notes_are_the_parts_own(backend):
    _, net = autoencoder(backend)
    net.freeze("code")
    net.set_output(1, "exp")
    net.notes = {"a": 1}
    part = net.part()
    assert part.text() == net.text() and part.notes == {} and part.dtype == net.dtype and part.n_threads == net.n_threads
    part.unfreeze()
    part.set_layer(l2=0.5)
    part.set_output(0, "sigmoid")
    assert [layer.frozen for layer in net.layers] == [True, False] and [layer.l2 for layer in net.layers] == [0, 0]
    assert net.outputs[0].activation is None and part.outputs[1].activation == "exp"


def test_a_part_keeps_the_values(backend):
    _, net = autoencoder(backend)
    decoder, expected = net.part("code"), net.tensors["out.weight"].copy()
    del net
    np.testing.assert_array_equal(decoder.tensors["out.weight"], expected)


def test_initial_values_given_as_arrays(backend):
    x = bp.Input(2)
    net = bp.Network(x, bp.Dense(2, init=np.eye(2))(bp.Dense(2, init=[[1, 2], [3, 4]], name="a")(x)), backend=backend)
    part = net.part(outputs="a")
    net.params[:] = 7
    part.init(seed=1)
    np.testing.assert_array_equal(net.tensors["a.weight"], [[1, 2], [3, 4]])
    assert (net.tensors["dense_1.weight"] == 7).all()
    assert pickle.loads(pickle.dumps(part))._arrays.keys() == {"a.weight"}


def test_a_part_prints_its_own_parameters(backend):
    _, net = autoencoder(backend)
    part = net.part("code")
    assert str(part).startswith("microbp.Network: 24 parameters of 45 (part of a network), float32")
    assert "3 to 6, 24 parameters" in str(bp.Trainer(part, "mse"))
    assert "24 parameters" in str(bp.Ensemble([part]))
    assert bp.Ensemble([part, part.copy()]).predict(np.ones((2, 3))).shape == (2, 6)


def test_gradients_of_parts(backend):
    (_, code, y), net = autoencoder(backend)
    t = bp.Trainer(net.part(code, y), "mse")
    random = np.random.default_rng(0)
    check = t.check_gradients(random.normal(size=(5, 3)), random.normal(size=(5, 6)))
    assert check.error < 1e-6 and check.checked == 24 and (check.tensor == "" or check.tensor.startswith("out"))


def test_early_stopping_restores_only_layers_of_the_part(backend):
    _, net = autoencoder(backend)
    decoder, random = net.part("code"), np.random.default_rng(0)
    x, y = random.normal(size=(20, 3)), random.normal(size=(20, 6))

    def move_the_other(record):
        net.tensors["code.bias"][:] = record.epoch

    t = bp.Trainer(decoder, "mse", bp.SGD(lr=0.2))
    t.fit(x, y, epochs=40, validation=0.5, patience=3, callback=move_the_other, progress=False)
    assert t.finished and (net.tensors["code.bias"] == len(t.history["loss"])).all()


def test_two_trainers_on_one_block(backend):
    """In one thread they take turns; a second thread is refused; inside a function of the user no other part trains."""
    _, net = autoencoder(backend, dtype="float64")
    encoder, decoder = net.part(outputs="code"), net.part("code")
    x, code = np.ones((4, 6)), np.ones((4, 3))
    a, b = bp.Trainer(encoder, "mse"), bp.Trainer(decoder, "mse")
    a.step(x, code)
    b.step(code, x)
    errors = []

    def refused():
        for call in (lambda: b.step(code, x), lambda: decoder.init(1), lambda: bp.Trainer(net, ["mse", "mse"]).step(x, [x, code])):
            try:
                call()
            except RuntimeError as error:
                errors.append(str(error))
        decoder.predict(code)  # is not refused

    def other_thread(record):
        thread = threading.Thread(target=refused)
        thread.start()
        thread.join()
        return True

    a.fit(x, code, epochs=1, callback=other_thread, progress=False)
    assert len(errors) == 3 and all("in use by another thread" in error for error in errors)

    def own(outputs, targets, weight):
        with pytest.raises(RuntimeError, match="inside a function that a training call has called"):
            b.step(code, x)
        return float(outputs.sum()), np.ones_like(outputs)

    bp.Trainer(encoder, own).step(x, code)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"inputs": "cod"}, ValueError, "unknown layer 'cod'; did you mean 'code'"),
        ({"outputs": ["out", "outt"]}, ValueError, "unknown layer 'outt'; did you mean 'out'"),
        ({"outputs": 3}, ValueError, "part: outputs must be a node number from 0 to 2, not 3"),
        ({"outputs": -1}, ValueError, "part: outputs"),
        ({"inputs": 1.5}, TypeError, "part: inputs, unless it is a node or the name of a layer,"),
        ({"inputs": []}, ValueError, "part: inputs is empty; name at least one node"),
        ({"inputs": bp.Input(3)}, ValueError, "part: inputs .<node .*: input, width 3>. is not a node that this network was made of"),
        ({"inputs": "out", "outputs": "code"}, ValueError, "the outputs depend on node 0, an input of the net: add it, or a node between"),
        ({"inputs": ["code", "code"]}, ValueError, "node 1 is twice among the inputs"),
        ({"outputs": ["out", 2]}, ValueError, "node 2 is twice among the outputs"),
        ({"inputs": [0, "out"], "outputs": "code"}, ValueError, r"no output depends on node 2, which is inputs\[1\]"),
        ({"inputs": "out"}, ValueError, "part: no output of the network depends on node 2: name the outputs"),
    ],
)
def test_wrong_ends_are_refused(backend, arguments, error, words):
    _, net = autoencoder(backend)
    with pytest.raises(error, match=words):
        net.part(**arguments)


def test_a_layer_with_several_nodes_needs_a_number(backend):
    x, z = bp.Input(3), bp.Input(3)
    tower = bp.Dense(2, name="tower")
    net = bp.Network([x, z], tower(x) * tower(z), backend=backend)
    with pytest.raises(ValueError, match="layer 'tower' is used at nodes 2, 3; choose one of them, for example part: outputs=2"):
        net.part(outputs="tower")
    part = net.part(outputs=3)
    assert part.text().startswith("input 3\ndense 0 layer=tower") and part.inputs[0].width == 3


def test_a_trainer_whose_layers_are_all_frozen_computes_input_gradients(backend):
    _, net = autoencoder(backend)
    for frozen in (net, net.part("code", "out")):
        frozen.freeze()
        before, t = net.params.copy(), bp.Trainer(frozen, ["mse"] * len(frozen.outputs))
        x = np.ones((2, frozen.inputs[0].width))
        y = [np.zeros((2, output.width)) for output in frozen.outputs]
        t.backward(x, y[0] if len(y) == 1 else y, input_grads=True)
        t.apply()
        assert t.input_grads.any() and not t.grads.any() and (net.params == before).all()
