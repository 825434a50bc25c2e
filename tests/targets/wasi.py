"""Runs a WebAssembly program with wasmtime: python wasi.py PROGRAM"""

import sys

import wasmtime

engine = wasmtime.Engine()
store, linker, wasi = wasmtime.Store(engine), wasmtime.Linker(engine), wasmtime.WasiConfig()
wasi.argv = ["program"]
wasi.inherit_stdout()
linker.define_wasi()
store.set_wasi(wasi)
instance = linker.instantiate(store, wasmtime.Module.from_file(engine, sys.argv[1]))
try:
    instance.exports(store)["_start"](store)
except wasmtime.ExitTrap as exit_trap:
    sys.exit(exit_trap.code)
