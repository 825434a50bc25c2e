"""--live: what the server answers, to whom, and that the training does not change."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from browser import View

import microbp as bp
from microbp.cli.main import main
from microbp.reports.live import Live


@pytest.fixture
def live():
    found = Live("a <b> & c")
    yield found
    found.close()


def ask(live: Live, path: str = "/", method: str = "GET", host: str | None = None) -> tuple[int, str]:
    port = int(live.address.split(":")[2].strip("/"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": f"127.0.0.1:{port}" if host is None else host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_only_get_of_the_own_address_is_answered(live):
    port = live.address.split(":")[2].strip("/")
    assert ask(live)[0] == ask(live, "/history.json")[0] == ask(live, host=f"localhost:{port}")[0] == 200
    hosts = ("evil.example", f"evil.example:{port}", "127.0.0.1", "")
    assert {ask(live, path, host=host)[0] for path in ("/", "/history.json") for host in hosts} <= {400, 403}
    assert {ask(live, path)[0] for path in ("/../../etc/passwd", "/history.json?x", "/live.py")} == {404}
    assert {ask(live, method=method)[0] for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS")} == {501}
    assert "a &lt;b&gt; &amp; c" in ask(live)[1]


def test_the_server_listens_on_this_machine_only(live):
    assert live.address.startswith("http://127.0.0.1:")
    assert live._server.server_address[0] == "127.0.0.1"


def test_the_history_is_that_of_fit(live):
    x = np.linspace(-1, 1, 40).reshape(-1, 1)
    t = bp.Trainer(bp.mlp([1, 4, 1], seed=0), loss="mse")
    live.begin("network 1 of 1")
    history = t.fit(x, x, epochs=3, callback=live.add)
    found = json.loads(ask(live, "/history.json")[1])
    assert found["epochs"] == 3 and found["place"] == "network 1 of 1" and not found["done"]
    assert np.allclose(found["history"]["loss"], history["loss"], rtol=1e-5)  # it has 6 digits


def test_numbers_that_json_does_not_have_are_null(live):
    live.add({"epoch": 1, "loss": float("nan"), "lr": float("inf"), "seconds": 0.5})
    assert json.loads(ask(live, "/history.json")[1])["history"] == {"loss": [None], "lr": [None], "seconds": [0.5]}


def test_of_many_epochs_a_thousand_are_drawn(chromium, live):
    live.begin("run")
    for epoch in range(150_000):  # as many arguments as a function of JavaScript cannot have
        live.add({"epoch": epoch, "loss": 150_000.0 - epoch})
    found = json.loads(ask(live, "/history.json")[1])
    losses = found["history"]["loss"]
    assert found["epochs"] == 150_000 and len(losses) == 1000 and (losses[0], losses[-1]) == (150_000, 1)
    with View(chromium, live.address) as view:
        view.page.wait_for_selector("svg path")
        assert view.page.locator("svg text", has_text="epoch 150000").count() == 1
        assert view.page.locator("#state").text_content() == "run, epoch 150000"


def test_the_page_gets_the_last_epochs_before_the_server_ends(chromium):
    live = Live("run")
    live.begin("network 1 of 2")
    for epoch in range(5):
        live.add(
            {"epoch": epoch, "loss": 1 / (epoch + 1), "val_loss": 2 / (epoch + 1), "accuracy": 0.5, "lr": 1e-7 * epoch, "seconds": 0.1}
        )
    for width, dark in ((390, False), (1200, True)):
        with View(chromium, live.address, width=width, dark=dark) as view:
            view.page.wait_for_selector("svg path")
            assert view.faults() == []
            assert view.page.locator("figure").count() == 3
            fill = view.page.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
            assert fill == ("rgb(232, 232, 232)" if dark else "rgb(34, 34, 34)")
            assert view.page.evaluate("getComputedStyle(document.querySelector('svg')).filter") == "none"
            assert (
                len(
                    set(
                        view.page.evaluate(
                            "[...document.querySelectorAll('svg path')].slice(0, 2).map(one => getComputedStyle(one).stroke)"
                        )
                    )
                )
                == 2
            )
            assert view.page.locator("svg title").first.text_content() == "loss by epoch: loss, training 0.2, loss, validation 0.4"
    with View(chromium, live.address) as view:
        view.page.wait_for_selector("svg path")
        live.begin("network 2 of 2")
        live.add({"epoch": 1, "loss": 0.5, "lr": 0.1, "seconds": 0.1})
        closing = threading.Thread(target=live.close)
        closing.start()
        view.page.locator("#state", has_text="has ended: network 2 of 2, epoch 1").wait_for(timeout=5000)
        closing.join()
        assert view.faults() == []


def test_the_page_says_when_the_program_is_gone(chromium):
    live = Live("run")
    with View(chromium, live.address) as view:
        view.page.wait_for_timeout(100)
        live._server.shutdown()
        live._server.server_close()
        view.page.locator("#state", has_text="does not answer").wait_for(timeout=10_000)


def test_training_has_the_same_bits(tmp_path, capsys):
    nets = [tmp_path / f"{name}.safetensors" for name in ("plain", "live")]
    usual = ["train", "digits", "--epochs", "3", "--ensemble", "2", "--out"]
    assert main([*usual, str(nets[0])]) == 0
    assert main([*usual, str(nets[1]), "--live"]) == 0
    assert re.search(r"follows the training: http://127\.0\.0\.1:\d+/\n", capsys.readouterr().err)
    assert nets[0].read_bytes() == nets[1].read_bytes()
    assert not [thread for thread in threading.enumerate() if "serve_forever" in thread.name]


def test_a_port_in_use_is_an_error_before_the_training(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        with pytest.raises(SystemExit):
            main(["train", "does-not-exist.csv", "--live-port", port])
    assert f"argument --live-port: cannot serve at port {port} (Address already in use); choose another" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_a_port_that_cannot_be(port, capsys):
    with pytest.raises(SystemExit):
        main(["train", "digits", "--live-port", port])
    assert "argument --live-port: the value must be" in capsys.readouterr().err


def test_the_threads_do_not_keep_the_program_alive():
    code = "from microbp.reports.live import Live; Live('x'); raise SystemExit(3)"
    assert subprocess.run([sys.executable, "-P", "-c", code], timeout=30).returncode == 3
