from rnnjax.training.machine import machine_record


def test_machine_has_a_core_and_memory():
    machine = machine_record()
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 2**20
