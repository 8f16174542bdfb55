"""How many cores are computed on, and that the emulations of tests/portable.py are what they
say.
"""

import os
import subprocess
import sys

import pytest

from engine.core import settings
from engine.core.lab import Lab, device_name
from tests import portable
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "said, cores", [("1", 1), ("4", 4), ("", None), ("0", None), ("default", None), ("-2", None)]
)
def test_python_cpu_count_is_obeyed_where_it_is_a_number(monkeypatch, store, said, cores):
    monkeypatch.setenv("PYTHON_CPU_COUNT", said)
    wanted = cores or settings.cores()
    assert (
        settings.cores() == Lab(store).threads == wanted >= 1 and f"{wanted} cores" in device_name()
    )


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="needs a system that pins processes"
)
def test_cores_that_this_process_may_not_use_are_not_counted(monkeypatch):
    """In a container that has one core of sixty-four, sixty-four threads would wait for each
    other.
    """
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    code = (
        f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}});"
        " from engine.core import settings; print(settings.cores())"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        == "1"
    )


def test_an_emulation_takes_this_machines_own_settings_away(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    usual, one = portable.environment("as-is"), portable.environment("one-thread")
    assert (
        not {"OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS"} & set(usual)
        and usual["PATH"] == os.environ["PATH"]
    )
    assert one["PYTHON_CPU_COUNT"] == one["OMP_NUM_THREADS"] == "1"
    assert portable.environment("unlike")["OPENBLAS_CORETYPE"] == "Prescott"


def test_a_number_of_threads_reaches_the_studies():
    code = (
        "from engine.core.lab import Lab, open_store; import torch; Lab(open_store()).device;"
        " print(torch.get_num_threads())"
    )
    for name, threads in (("one-thread", "1"), ("four-threads", "4")):
        found = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env=portable.environment(name),
        )
        assert found.stdout.strip() == threads


def test_what_failed_is_told_by_name(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="a" name="good"/><testcase classname="a"'
        ' name="bad"><failure/></testcase><testcase classname="a"'
        ' name="odd"><error/></testcase><testcase classname="a"'
        ' name="left"><skipped/></testcase></testsuite></testsuites>'
    )
    assert portable.counted(report) == {"passed": 1, "skipped": 1, "failed": ["a::bad", "a::odd"]}
    row = portable.counted(report) | {"differs": ["product"], "seconds": 120, "date": "2026-01-01"}
    assert "| one-thread | product | 1 | 2 | 1 | 2 | 2026-01-01 |" in portable.table(
        {"one-thread": row}
    ) and "one-thread: a::odd" in portable.table({"one-thread": row})


def test_an_emulation_that_there_is_not_is_refused_by_name():
    found = subprocess.run(
        [sys.executable, "-m", "tests.portable", "sparc"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (
        found.returncode == 2
        and "sparc is not an emulation; there are as-is, aten-default" in found.stderr
    )
